"""Every process reports itself: what it logs as an error is an incident a moment later."""

from pathlib import Path

from livesystem import System, await_that

#: Python reads this file first, in every process: it logs one error once the process ships what it logs.
LOGS_AN_ERROR = """
import logging, os, threading, time

def tell():
    for _ in range(600):
        for each in logging.getLogger().handlers:
            if type(each).__name__ == "IncidentHandler":
                logging.getLogger(f"told.{each._component}").error("told by a test")  # one incident for each logger
                return
        time.sleep(0.1)

def begin():
    threading.Thread(target=tell, daemon=True).start()

begin()
os.register_at_fork(after_in_child=begin)
"""
TOLD = "SELECT DISTINCT component FROM incidents WHERE level = 'error' AND message = 'told by a test'"


def test_an_error_that_any_component_logs_becomes_an_incident(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(LOGS_AN_ERROR)
    system = System.started(tmp_path / "system", environ={"PYTHONPATH": str(tmp_path / "first")})
    try:

        def reported() -> set[str]:
            return {row[0] for row in system.query(TOLD)}

        wanted = {"api", "relay", "celery", "pilots", "monitor"}
        await_that(lambda: wanted <= reported(), 60, lambda: f"these said nothing: {wanted - reported()}")
    finally:
        system.stop()
