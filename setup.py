"""Package metadata of larq_nobn; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "lce": ["larq-compute-engine==0.16.*"],
    "data": [
        "tensorflow-datasets==4.9.*",
        "importlib_resources",  # which tensorflow-datasets imports but does not name
        "pillow>=10.1",
        "scikit-learn>=1.3",
    ],
    "plots": ["matplotlib>=3.8", "scikit-learn>=1.3", "tensorboard>=2.16,<2.22"],
    "cluster": ["distributed>=2024.8"],
    "torch": ["torch>=2.6"],  # before, reading weights alone could run code
    "docs": [
        "mkdocs-material>=9.5,<10",
        "mkdocstrings[python]>=0.26",
        "latex2mathml>=3.77",
        "ziamath>=0.11",  # for its font, STIX Two Math
        "fonttools>=4.50",
        "ipykernel>=6.29",
        "nbclient>=0.10",
        "nbconvert>=7.16",
    ],
}
EXTRAS["micro"] = ["tflite-micro>=0.dev20261001"]
EXTRAS["all"] = [*EXTRAS["lce"], *EXTRAS["data"], *EXTRAS["plots"]]
EXTRAS["test"] = [
    *EXTRAS["all"],
    "hypothesis>=6.100",
    "pytest>=8.2",
    "pytest-xdist>=3.6",
]
EXTRAS["dev"] = [
    *EXTRAS["test"],
    *EXTRAS["cluster"],
    *EXTRAS["docs"],
    *EXTRAS["micro"],
    "ai-edge-litert>=2.1",
    "build>=1.2",
    "mypy==2.4.*",
    "onnxruntime>=1.20",
    "pre-commit>=3.7",
    "psutil>=5.9",
    "ruff==0.17.*",
    "setuptools>=77",
    "tf2onnx>=1.17",
    "torch==2.13.0",
    "twine>=6.1",
    "uv>=0.8",
]


def read(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


VERSION: dict[str, str] = {}
exec(read("larq_nobn/_version.py"), VERSION)
NUMBER = VERSION["__version__"]
# The public address, of which CITATION.cff is the one place; none until it has one.
FOUND = re.search(
    r"^repository-code: *\"?([^\s\"]+)", read("CITATION.cff"), re.MULTILINE
)
URLS = {
    "Paper": "https://arxiv.org/abs/2104.08215",
    "Larq": "https://docs.larq.dev",
}
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|#)([^)]+\))")
IMAGE = re.compile(r"(\bsrc(?:set)?=\")(?!https?:)")


def on_the_index(page: str) -> str:
    """README for a package index, where links need the address of what they name."""
    if not FOUND:
        return page
    tree = f"{FOUND[1]}/raw/v{NUMBER}/", f"{FOUND[1]}/blob/v{NUMBER}/"
    page = IMAGE.sub(rf"\g<1>{tree[0]}", page)
    return LINK.sub(lambda m: m[1] + tree[m[1][0] != "!"] + m[2], page)


if FOUND:
    URLS = {
        "Source": FOUND[1],
        "Documentation": f"{FOUND[1]}/tree/v{NUMBER}/docs",
        "Changelog": f"{FOUND[1]}/blob/v{NUMBER}/CHANGELOG.md",
        "Issues": f"{FOUND[1]}/issues",
        **URLS,
    }

setup(
    name="larq_nobn",
    version=NUMBER,
    description="Binary neural networks in Keras without batch normalization",
    long_description=on_the_index(read("README.md")),
    long_description_content_type="text/markdown",
    author="The larq_nobn authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    project_urls=URLS,
    keywords=[
        "binary neural networks",
        "quantization",
        "batch normalization",
        "normalizer-free networks",
        "Keras",
        "Larq",
        "TensorFlow Lite",
        "mobile inference",
    ],
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["larq_nobn", "larq_nobn.*"]),
    package_data={
        "larq_nobn": [
            "py.typed",
            "models/*.json",
            "models/weights/*.npz",
            "deploy/c/*.c",
        ]
    },
    install_requires=[
        "tensorflow>=2.16,<2.22",
        "tf-keras>=2.16,<2.22",
        "larq>=0.14,<0.15",
        "numpy>=1.23.5,<3",  # Larq and LCE ask for less than 2
        "click>=8.1",
        "filelock>=4.1",
        "rich>=13.7",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["larq-nobn=larq_nobn.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
