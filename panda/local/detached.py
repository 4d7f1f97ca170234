"""The supervisor of `panda up --detach`: `python -m panda.local.detached '{"data": …}'`.

`up.run_up` with its arguments as JSON, and nothing else imported: it lives long and stays small.
"""

import json
import sys

from panda.local.up import run_up

if __name__ == "__main__":
    sys.exit(run_up(**json.loads(sys.argv[1])))
