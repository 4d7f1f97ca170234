"""A process for the tests of the supervisor: `python tiny.py http PORT`, `idle`, `child`, `crash`, `deaf`."""

import http.server
import signal
import subprocess
import sys
import time


class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


def main(mode: str, *words: str) -> None:
    if mode == "http":
        http.server.ThreadingHTTPServer(("127.0.0.1", int(words[0])), Fine).serve_forever()
    if mode == "crash":
        sys.stderr.write("the sky is falling\n")
        sys.exit(3)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "child":
        subprocess.Popen([sys.executable, __file__, "deaf"])
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
