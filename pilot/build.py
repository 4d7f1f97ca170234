"""`python -m pilot.build dist/pilot.pyz`: the pilot as one file, the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

SHEBANG = b"#!/usr/bin/env python3\n"
START = "import sys\nfrom pilot.__main__ import main\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path) -> None:
    """Write the archive to `target`, and see that it runs on a bare Python.

    Raises: subprocess.CalledProcessError if it does not.
    """
    source = Path(__file__).resolve().parent
    files = {"__main__.py": START.encode()}
    for path in sorted(source.rglob("*.py")):
        if path.name != "build.py":
            files[f"pilot/{path.relative_to(source).as_posix()}"] = path.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as out:
        out.write(SHEBANG)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
    part.chmod(0o755)
    subprocess.run([sys.executable, "-I", "-S", str(part), "--version"], check=True, stdout=subprocess.DEVNULL)
    os.replace(part, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pilot.build dist/pilot.pyz")
    build(Path(sys.argv[1]))
