"""Builds the native roll-out; all else is declared in pyproject.toml.

The library is plain C++ behind a C interface: it needs a compiler, and neither the headers of Python nor of PyTorch.
It is built once for each instruction set, and is optional: without a compiler, roll-outs run in PyTorch.
"""

import copy
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = "csrc/rollout.cpp"
HEADERS = [path.as_posix() for path in sorted(Path("csrc").glob("*.h"))]
COMMON = ["-std=c++17", "-O3", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-pthread", "-g0"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
X86 = {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "avx512_bf16": [*AVX512, "-mavx512bf16"]}


def extensions():
    """One library for every CPU, and on x86 one for each instruction set that pays."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    for name, flags in {"portable": [], **(X86 if x86 else {})}.items():
        yield Extension(
            f"delira_nca.rollout._native_{name}",
            [SOURCE],
            depends=HEADERS,
            extra_compile_args=[*COMMON, *flags],
            extra_link_args=["-pthread"],
            language="c++",
        )


class BuildNative(build_ext):
    """Compile what can be compiled, and say in one line what cannot."""

    def get_ext_filename(self, fullname):
        """File of a library, which knows no version of Python."""
        return str(Path(*fullname.split("."))) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext):
        """Leave the choice to the source: there is no function that Python would call."""
        return []

    def run(self):
        """Build all libraries, several at a time, and report what is missing in one line."""
        self.parallel = self.parallel or True
        self.failures = {}
        try:
            super().run()
        except Exception as error:  # no compiler is no reason not to install
            self.failures["all"] = error
        if self.failures:
            names = ", ".join(sorted(self.failures))
            self.warn(f"no native roll-out for {names}: the C++ compiler failed. PyTorch does its work, slower.")

    def build_extension(self, ext):
        """Build one library in a folder of its own, since all come from one source; a failure leaves it out."""
        alone = copy.copy(self)
        alone.build_temp = str(Path(self.build_temp, ext.name))
        try:
            super(BuildNative, alone).build_extension(ext)
        except Exception as error:
            self.failures[ext.name.rpartition("_native_")[2]] = error

    def copy_extensions_to_source(self):
        """For an editable install: put what was built beside the package's files."""
        built = [ext for ext in self.extensions if Path(self.build_lib, self.get_ext_filename(ext.name)).exists()]
        everything, self.extensions = self.extensions, built
        super().copy_extensions_to_source()
        self.extensions = everything


setup(ext_modules=list(extensions()), cmdclass={"build_ext": BuildNative})
