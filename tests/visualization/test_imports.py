import subprocess
import sys
from pathlib import Path

import delira_nca

SCRIPT = """
import sys
import delira_nca
before = set(sys.modules)
import delira_nca.logging, delira_nca.visualization
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_importing_the_packages_imports_nothing_heavy():
    root = Path(delira_nca.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    for name in ("torch", "matplotlib", "tensorboardX", "PIL"):
        assert f"'{name}'" not in done.stdout
