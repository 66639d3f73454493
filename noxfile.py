# SPDX-License-Identifier: Apache-2.0
"""Every chore of the project, one session each: `nox -l` lists them, `nox` alone runs what CI runs.

Versions of the tools are in [dependency-groups] of pyproject.toml.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_external_run = True
nox.options.sessions = [
    "lint",
    "types",
    "tidy",
    "tests",
    "cpp",
    "asan",
    "tsan",
    "emulated",
    "clang",
    "arm",
    "arm_wheel",
    "cross",
    "wheel",
]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
WHEEL_LIMIT = 3_000_000
# Tests that execute no kernel, or none in more than one way: once is enough.
WITHOUT_KERNELS = (
    "layering",
    "test_bench_*.py",
    "test_cli.py",
    "test_comparison.py",
    "test_demo.py",
    "test_docs.py",
    "test_errors.py",
    "test_packaging.py",
)
ELSEWHERE = tuple(f"--ignore-glob=tests/{name}" for name in WITHOUT_KERNELS)
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
# What pip may install for aarch64, beside what the wheel itself asks for.
MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
CROSS_TARGETS = ("aarch64-macos", "x86_64-windows-gnu")
ZIG = "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / 'zig')"
CORES = str(min(os.cpu_count() or 1, 8))


def dependency_group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def install_group(session: nox.Session, name: str) -> None:
    session.install(*dependency_group(name))


def sources(*folders: str, suffixes: tuple[str, ...] = (".h", ".cc", ".c")) -> list[str]:
    """C and C++ files below `folders`, sorted."""
    return sorted(
        str(path)
        for folder in folders
        for path in Path(folder).rglob("*")
        if path.suffix in suffixes
    )


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """A .venv to work in: editable install, test packages, tools. Run again to rebuild."""
    venv = ROOT / ".venv"
    bin_dir = venv / ("Scripts" if os.name == "nt" else "bin")
    if not venv.exists():
        session.run("python3", "-m", "venv", str(venv), external=True)
    pip = [str(bin_dir / "pip"), "install", "--quiet"]
    session.run(*pip, *dependency_group("dev"), external=True)
    session.run(*pip, "--no-build-isolation", "--editable", ".[test]", external=True)
    session.log(
        f"ready: {bin_dir / 'pytest'}; C++: cmake --preset dev && cmake --build --preset dev"
    )


@nox.session
def tests(session: nox.Session) -> None:
    """The Python tests on the installed wheel, with every tier that this CPU has."""
    session.install(".[test]", "--config-settings=build-dir=build/tests")
    session.run("pytest", *session.posargs, env={"QKERNELS_BUILD_DIR": "build/tests"})


def build(session: nox.Session, preset: str, *options: str, folder: str = "") -> None:
    """A preset built in its folder, or with other options in another."""
    folder = folder or f"build/{preset}"
    install_group(session, "native")
    session.run("cmake", "--preset", preset, "-B", folder, "--log-level=WARNING", *options)
    session.run("cmake", "--build", folder, "--parallel", CORES)


def native_tests(session: nox.Session, preset: str, *arguments: str) -> None:
    build(session, preset)
    session.run("ctest", "--preset", preset, *arguments)


def need(session: nox.Session, command: str, package: str) -> None:
    """Ends the session when a command is missing that a package of Debian and Ubuntu has."""
    if shutil.which(command) is None:
        session.error(f"{command} is not installed: apt-get install {package}")


@nox.session
def cpp(session: nox.Session) -> None:
    """The native tests in Release, warnings as errors."""
    native_tests(session, "release", *session.posargs)


@nox.session
def asan(session: nox.Session) -> None:
    """The native tests under AddressSanitizer and UndefinedBehaviorSanitizer."""
    native_tests(session, "asan", *session.posargs)


@nox.session
def tsan(session: nox.Session) -> None:
    """The native tests under ThreadSanitizer."""
    native_tests(session, "tsan", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, clang-format, codespell and the rules of scripts/check_tree.py."""
    install_group(session, "lint")
    session.run("ruff", "check", "--quiet", ".")
    session.run("ruff", "format", "--check", "--quiet", ".")
    session.run("clang-format", "--dry-run", "-Werror", *sources("csrc", "tests"), silent=True)
    session.run("codespell")
    session.run("python", "scripts/check_tree.py")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over the package."""
    install_group(session, "types")
    session.run("mypy")


@nox.session
def tidy(session: nox.Session) -> None:
    """clang-tidy over the C++ outside the kernel tiers."""
    install_group(session, "tidy")
    pybind11 = session.run("python", "-m", "pybind11", "--cmakedir", silent=True)
    session.run(
        "cmake",
        "--preset",
        "tidy",
        "--log-level=WARNING",
        f"-Dpybind11_DIR={str(pybind11).strip()}",
    )
    files = session.posargs or [r"csrc/(core|pack|ops|python)/.*\.cc$"]
    session.run("run-clang-tidy.py", "-quiet", "-p", "build/tidy", "-j", CORES, *files, silent=True)


@nox.session
def emulated(session: nox.Session) -> None:
    """The tests of kernels with AVX-512 and AMX on a model: tests/emulation/README.md."""
    native_tests(session, "emulated")
    session.install(
        ".[test]",
        "--config-settings=build-dir=build/emulated-wheel",
        f"--config-settings=cmake.define.QKERNELS_EMULATE={ROOT / 'tests' / 'emulation'}",
    )
    expected = {"QKERNELS_EXPECT_TIERS": "scalar,avx2,avxvnni,avx512vnni,amx"}
    session.run("pytest", *ELSEWHERE, *session.posargs, env=expected)


@nox.session
def clang(session: nox.Session) -> None:
    """The native tests built by clang, warnings as errors."""
    need(session, "clang++", "clang")
    compilers = ("-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++")
    build(session, "release", *compilers, folder="build/clang")
    session.run("ctest", "--test-dir", "build/clang", "--output-on-failure", *session.posargs)


@nox.session
def arm(session: nox.Session) -> None:
    """The native tests cross-compiled, on four Arm CPU models: scripts/arm_native.py."""
    need(session, "aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    need(session, "qemu-aarch64-static", "qemu-user-static")
    build(session, "arm")
    session.run("python", "scripts/arm_native.py", "build/arm/tests/cpp/qkernels_tests")


@nox.session
def mca(session: nox.Session) -> None:
    """MACs a cycle of the Arm kernels' inner loops on llvm-mca's models: scripts/inner_loops.py."""
    need(session, "aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    # The models of the Neoverse cores are younger than the llvm-mca of some distributions.
    tools = [shutil.which(f"llvm-mca-{version}") for version in range(30, 16, -1)]
    tool = next(filter(None, tools), None)
    if tool is None:
        session.error("no llvm-mca of LLVM 17 or later is installed: apt-get install llvm-19")
    build(session, "arm")
    session.run("python", "scripts/inner_loops.py", "build/arm", "--mca", tool)


@nox.session
def arm_wheel(session: nox.Session) -> None:
    """The aarch64 wheel, cross-compiled, and under qemu its self test as each Raspberry Pi and the
    Python tests that execute kernels; `-- tests` runs all. Arguments after -- go to pytest."""
    need(session, "aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    need(session, "qemu-aarch64-static", "qemu-user-static")
    need(session, "apt-get", "apt, on Debian")
    install_group(session, "arm-wheel")
    root = ROOT / "build" / "arm-root"
    found = str(session.run("python", "scripts/arm_root.py", str(root), silent=True)).split()[0]
    if found != f"python{session.run('python', '-c', VERSION, silent=True)}".strip():
        session.error(f"Debian's arm64 Python is {found}: run nox with that version")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    suffix = f".{found.replace('python3.', 'cpython-3')}-aarch64-linux-gnu.so"
    settings = {
        "build-dir": "build/arm-wheel",
        "cmake.define.CMAKE_TOOLCHAIN_FILE": ROOT / "cmake" / "aarch64-linux-gnu.cmake",
        "cmake.define.CMAKE_CXX_FLAGS": f"-idirafter {root}/usr/include",
        "cmake.define.Python_INCLUDE_DIR": root / "usr" / "include" / found,
        "cmake.define.PYTHON_MODULE_EXTENSION": suffix,
    }
    session.run(
        *("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist)),
        *(f"--config-setting={name}={value}" for name, value in settings.items()),
        env={"_PYTHON_HOST_PLATFORM": "linux-aarch64", "SETUPTOOLS_EXT_SUFFIX": suffix},
        silent=True,
    )
    (built,) = dist.glob("*-linux_aarch64.whl")
    session.run(
        "auditwheel", "repair", "--plat=auto", f"--wheel-dir={dist}", str(built), silent=True
    )
    (tagged,) = dist.glob("*-manylinux_*_aarch64.whl")
    session.log(f"{tagged.name}: {tagged.stat().st_size:,} bytes")

    packages = root / "usr" / "lib" / "python3" / "dist-packages"
    shutil.rmtree(packages, ignore_errors=True)
    # pip would judge markers by the machine that it runs on.
    extra = PYPROJECT["project"]["optional-dependencies"]["test"]
    session.run(
        *("pip", "install", "--quiet", "--no-warn-conflicts", f"--target={packages}"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={found[6:]}"),
        *(f"--platform={tag}_aarch64" for tag in (*MANYLINUX, tagged.stem.split("-")[-1][:-8])),
        *(str(tagged), *(package for package in extra if "x86_64" not in package)),
    )
    python = str(root / "usr" / "bin" / "python3")
    for cpu in ("cortex-a53", "cortex-a72", "cortex-a76"):  # Raspberry Pi 3, 4, 5
        session.run(python, "-m", "qkernels", "selftest", env={"QEMU_CPU": cpu}, external=True)
    session.run(
        *(python, "-m", "pytest", *(session.posargs or ELSEWHERE)),
        env={"QKERNELS_EXPECT_TIERS": "scalar,neon,neon_dotprod,neon_i8mm"},
        external=True,
    )


@nox.session
def cross(session: nox.Session) -> None:
    """The C API as a shared library, and the native tests, compiled and linked for systems that
    are not at hand. Other targets of cmake/zig.cmake after --."""
    install_group(session, "cross")
    zig = str(session.run("python", "-c", ZIG, silent=True)).strip()
    for target in session.posargs or CROSS_TARGETS:
        build(
            session,
            "release",
            *("--toolchain", "cmake/zig.cmake", "-DQKERNELS_SHARED=ON"),
            *(f"-DQKERNELS_ZIG={zig}", f"-DQKERNELS_ZIG_TARGET={target}"),
            folder=f"build/cross-{target}",
        )


@nox.session
def interop(session: nox.Session) -> None:
    """The tests with torch tensors: a large download, so not among the default sessions."""
    install_group(session, "interop")
    session.install(".[test]")
    session.run("python", "-c", "import torch")  # its absence must not pass as a skip
    session.run("pytest", "tests/test_interop.py", "tests/test_models.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """sdist, wheel made from it, and a smoke import beside NumPy alone in a clean environment."""
    install_group(session, "package")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    (built,) = dist.glob("*.whl")
    size = built.stat().st_size
    session.log(f"{built.name}: {size:,} bytes (limit {WHEEL_LIMIT:,})")
    if size >= WHEEL_LIMIT:
        session.error("the wheel is too large")
    session.run("python", "-m", "venv", "--clear", str(dist / "venv"))
    python = str(dist / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    session.run(python, "-m", "pip", "install", "--quiet", str(built), external=True)
    session.run(python, "-I", str(ROOT / "scripts/smoke.py"), external=True)
    # What needs packages that [test] has not: the stub against the module, the data's origin.
    session.install(str(built), "pytest", "hypothesis", "scikit-learn", *dependency_group("types"))
    session.run("pytest", "tests/test_packaging.py", "tests/test_demo.py")


@nox.session
def bench(session: nox.Session) -> None:
    """qkernels bench beside the peers; arguments after -- go to it. ONEDNN_ROOT adds oneDNN."""
    session.install(".[bench,torch]")
    session.run("qkernels", "bench", *session.posargs)


@nox.session
def bench_compare(session: nox.Session) -> None:
    """qkernels bench compared with the last run of this CPU in bench/results; exit code 1 when
    something became slower. Arguments after -- go to the run."""
    session.install(".")
    facts = json.loads(str(session.run("qkernels", "info", "--json", silent=True)))
    cpu = facts["cpu"]["model"]
    kept = {}
    for path in (ROOT / "bench" / "results").glob("*.json"):
        document = json.loads(path.read_text())
        if document["machine"]["cpu"] == cpu:
            kept[document["created"]] = path
    if not kept:
        session.error(
            f"bench/results keeps no run of {cpu}: bench/results/README.md says how to add one"
        )
    now = Path(session.create_tmp()) / "now.json"
    session.run("qkernels", "bench", "--peers", "numpy", "--json", str(now), *session.posargs)
    session.run("qkernels", "bench", "--compare", str(kept[max(kept)]), str(now))


@nox.session
def docs(session: nox.Session) -> None:
    """Every example and every path in the documents."""
    session.install(".[test]")
    session.run("pytest", "tests/test_docs.py", *session.posargs)
