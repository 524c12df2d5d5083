"""`python -m benchmarks.release.serve HOME PORT SETTINGS`: the supervisor as `switchback serve` runs it."""

import sys
from pathlib import Path

from ci_tools.errors import run_stage
from ci_tools.release.home import Home
from ci_tools.release.supervisor import Settings, Supervisor

if __name__ == "__main__":
    home, port, settings = sys.argv[1:]
    service = Supervisor(Home(Path(home)), port=int(port), settings=Settings.model_validate_json(settings))
    sys.exit(run_stage(service.run))
