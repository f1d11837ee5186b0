"""What the documentation points to exists: files, headings, pictures, and the scripts and configurations it names."""

import glob
import os
import re

import pytest

from tests.entry import ROOT

PAGES = ["README.md", "CHANGELOG.md", "pretrained/README.md"]
PAGES += [os.path.relpath(path, ROOT) for path in sorted(glob.glob(f"{ROOT}/docs/*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
FILE = re.compile(
    r"\b(?:benchmarks|configs|core|docs|pretrained|tests)/[\w./-]*\.(?:md|png|py|yaml)\b|(?<=python3 )\w+\.py"
)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def anchors(path):
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", read(path), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page(page):
    for target in filter(None, (match[0] or match[1] for match in LINK.findall(read(page)))):
        if not re.match(r"https?://", target):
            path, _, anchor = target.partition("#")
            path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            assert os.path.exists(os.path.join(ROOT, path)), f"{page}: {target}"
            assert not anchor or anchor in anchors(path), f"{page}: {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_a_page_names(page):
    assert not [path for path in set(FILE.findall(read(page))) if not os.path.exists(os.path.join(ROOT, path))]


def test_pages_that_code_and_configurations_name():
    for folder in ("core", "configs"):
        paths = [f for ending in ("py", "yaml") for f in glob.glob(f"{ROOT}/{folder}/**/*.{ending}", recursive=True)]
        for path in paths:
            for page in re.findall(r"docs/[\w-]+\.md", read(path)):
                assert os.path.exists(os.path.join(ROOT, page)), f"{path}: {page}"


def test_every_page_is_linked_and_the_readme_is_short():
    readme = read("README.md")
    assert len(readme.splitlines()) <= 250
    assert not [page for page in PAGES if page.startswith("docs/") and f"({page}" not in readme]
