"""Python imports this module when it starts with this folder on PYTHONPATH: the process then has simulated CUDA devices.

SIMULATED_DEVICES says how many (1). CUDA_VISIBLE_DEVICES chooses among them.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.simulated_device import simulated_cuda

del sys.path[0]
_for_this_process = simulated_cuda(int(os.environ.get("SIMULATED_DEVICES", "1")))
_for_this_process.__enter__()
