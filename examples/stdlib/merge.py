"""Merge the counts that lie in the work folder: the payload of the job set that comes after.

merge.py OUTPUT
"""

import json
import sys
from pathlib import Path

from count import merged

if __name__ == "__main__":
    parts = [json.loads(path.read_text()) for path in sorted(Path().glob("counts.*.json"))]
    Path(sys.argv[1]).write_text(json.dumps(merged(parts)))
    print(f"{len(parts)} parts merged")
