import os
import subprocess
import sys
from pathlib import Path

import pytest

import delira_nca

ROOT = Path(delira_nca.__file__).parents[1]
WARN = "logging.getLogger('delira_nca').warning('too slow')"


def stderr_of(script, **environment):
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_warnings_are_shown_in_a_script_that_configures_nothing_and_otherwise_what_the_logger_is_set_to():
    script = f"""
import logging, delira_nca
logger = logging.getLogger("delira_nca")
logger.info("a")
{WARN}
logger.setLevel("INFO")
logger.info("b")
logger.setLevel("ERROR")
{WARN}
"""
    assert stderr_of(script) == "delira_nca WARNING: too slow\ndelira_nca INFO: b\n"


@pytest.mark.parametrize(
    "configure",
    [
        "logging.basicConfig(format='mine %(message)s')",
        "handler = logging.StreamHandler(); handler.setFormatter(logging.Formatter('mine %(message)s')); "
        "logging.getLogger('delira_nca').addHandler(handler)",
    ],
    ids=["root", "delira_nca"],
)
@pytest.mark.parametrize("order", ["import delira_nca; {configure}", "{configure}; import delira_nca"])
def test_a_warning_is_shown_once_by_the_user_s_handler(configure, order):
    assert stderr_of(f"import logging; {order.format(configure=configure)}; {WARN}") == "mine too slow\n"


@pytest.mark.parametrize("level", ["ERROR", "off"])
def test_the_environment_variable_hides_warnings(level):
    assert stderr_of(f"import logging, delira_nca; {WARN}", DELIRA_NCA_LOG_LEVEL=level) == ""


def test_an_unknown_level_is_refused():
    with pytest.raises(subprocess.CalledProcessError) as error:
        stderr_of("import delira_nca", DELIRA_NCA_LOG_LEVEL="WARN")
    assert "unknown value of DELIRA_NCA_LOG_LEVEL 'WARN'" in error.value.stderr
    assert "Did you mean 'WARNING'?" in error.value.stderr


def test_a_warning_has_a_line_of_its_own_beside_a_progress_bar():
    script = f"""
import logging, sys, delira_nca
from tqdm import tqdm
bar = tqdm(total=4, file=sys.stderr, ascii=True, mininterval=0, miniters=1)
bar.update()
{WARN}
bar.update()
bar.close()
"""
    lines = stderr_of(script).replace("\r", "\n").splitlines()
    assert "delira_nca WARNING: too slow" in [line.strip() for line in lines]


def test_a_process_without_standard_error_goes_on():
    assert stderr_of(f"import logging, sys, delira_nca; sys.stderr = None; {WARN}") == ""


def test_a_closed_standard_error_does_not_end_what_logs():
    script = f"import sys, logging, delira_nca; sys.stderr.close(); {WARN}; print('done')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")
