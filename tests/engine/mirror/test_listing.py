"""Indexes of several servers, and md5 files in both of NLM's forms."""

import pytest

from engine.mirror.listing import Listed, folder_url, parse_listing, parse_md5

URL = "https://host/pubmed/baseline/"
A, B = "pubmed26n0001.xml.gz", "pubmed26n0002.xml.gz"

NLM = f"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html><head><title>Index of /pubmed/baseline</title></head><body>
<h1>Index of /pubmed/baseline</h1>
<pre>Name                     Last modified      Size <hr>
<a href="/pubmed/">Parent Directory</a>   -
<a href="README.txt">README.txt</a>               2026-01-30 09:54  4.5K
<a href="{B}">{B}</a>     2026-01-29 14:48   17M
<a href="{A}">{A}</a>     2026-01-29 14:49   19M
<a href="{A}.md5">{A}.md5</a> 2026-01-29 14:50   60
<a href="pubmed26n0001_stats.html">pubmed26n0001_stats.html</a> 2026-01-29 14:48  585
<hr></pre></body></html>"""

NGINX = f"""<html><head><title>Index of /</title></head><body><h1>Index of /</h1><hr><pre>
<a href="../">../</a>
<a href="{A}">{A}</a>                    29-Jan-2026 14:49            19922944
<a href="{A}.md5">{A}.md5</a>                29-Jan-2026 14:49                  60
</pre><hr></body></html>"""

TABLE = f"""<html><body><table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td><a href="{A}">{A[:12]}..&gt;</a></td><td align="right">2026-01-29 14:49  </td>
<td align="right"> 19M</td><td>&nbsp;</td></tr></table></body></html>"""

PYTHON = f"""<!DOCTYPE HTML><html lang="en"><body><h1>Directory listing for /</h1><ul>
<li><a href="{A}">{A}</a></li>
<li><a href="{A}.md5">{A}.md5</a></li></ul></body></html>"""


@pytest.mark.parametrize(
    ("page", "line", "size"),
    [
        (NLM, "2026-01-29 14:49 19M | 2026-01-29 14:50 60", 19 << 20),
        (NGINX, "29-Jan-2026 14:49 19922944 | 29-Jan-2026 14:49 60", 19922944),
        (TABLE, "2026-01-29 14:49 19M", 19 << 20),
        (PYTHON, "", None),
    ],
    ids=["NLM", "nginx", "table", "python"],
)
def test_an_index(page: str, line: str, size: int | None) -> None:
    assert parse_listing(page.encode(), URL)[0] == Listed(A, line, size)


def test_only_nlms_names_are_taken_by_year_and_number() -> None:
    good = ["medline17n0900.xml.gz", "pubmed25n1275.xml.gz", A, "pubmed26n9999.xml.gz",
            "pubmed26n10000.xml.gz"]  # fmt: skip
    bad = [f"{A}.md5", "pubmed26n0001.xml", "pubmed2026n0001.xml.gz", "xpubmed26n0001.xml.gz",
           "pubmed26n001.xml.gz", "sub/pubmed26n0003.xml.gz", "../pubmed26n0003.xml.gz",
           "https://other/pubmed/baseline/pubmed26n0003.xml.gz",
           "/pubmed/updatefiles/pubmed26n1335.xml.gz", "pubmed26n0003.xml.gz?x=1"]  # fmt: skip
    links = "".join(f'<a href="{name}">x</a>' for name in [*reversed(good), *bad])
    assert [f.name for f in parse_listing(links.encode(), URL)] == good


@pytest.mark.parametrize(
    "link", [f"{URL}{A}", f"/pubmed/baseline/{A}", f"./{A}", A.replace("n", "%6e")]
)
def test_links_however_written(link: str) -> None:
    assert [f.name for f in parse_listing(f'<a href="{link}">x</a>'.encode(), URL)] == [A]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (NLM[:600], "was cut"),
        ("<html><body>Please log in</body></html>", "no directory index"),
        ("", "no directory index"),
        ("plain words", "no directory index"),
    ],
)
def test_what_is_no_whole_index(page: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_listing(page.encode(), URL)


def test_an_index_may_be_empty() -> None:
    assert parse_listing(b"<html><h1>Index of /pubmed/updatefiles</h1></html>", URL) == []


DIGEST = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        f"MD5({A})= {DIGEST}\n",
        f"MD5({A})= {DIGEST.upper()}",
        f"{DIGEST}  {A}\n",
        f"{DIGEST} *{A}\n",
        f"MD5 ({A}) = {DIGEST}\n",
        f"{DIGEST}\n",
        f"{DIGEST}  {A.removesuffix('.gz')}\n",  # named as it is once unzipped
    ],
)
def test_md5(text: str) -> None:
    assert parse_md5(text.encode(), A) == DIGEST


@pytest.mark.parametrize(
    "text",
    ["", "<html>not found</html>", f"MD5({B})= {DIGEST}", DIGEST[:-1], DIGEST + "0",
     f"{DIGEST}  {A}\n{'0' * 32}  {A}\n", "\xff\xfe"],
)  # fmt: skip
def test_an_md5_file_that_says_nothing_of_the_file(text: str) -> None:
    with pytest.raises(ValueError, match="expected one digest of pubmed26n0001"):
        parse_md5(text.encode("latin-1"), A)


@pytest.mark.parametrize(
    ("source", "kind", "url"),
    [
        ("https://host/pubmed", "baseline", "https://host/pubmed/baseline/"),
        ("https://host/pubmed/", "updates", "https://host/pubmed/updatefiles/"),
        ("https://host/pubmed/updatefiles/", "updates", "https://host/pubmed/updatefiles/"),
        ("http://host:8000", "baseline", "http://host:8000/baseline/"),
    ],
)
def test_the_folder_below_a_base_url_or_at_it(source: str, kind: str, url: str) -> None:
    assert folder_url(source, kind) == url
