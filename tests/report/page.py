"""Reads a report as a browser does, with the parser of the HTML standard, and prints what is in it as JSON.

    page.py FILE

The parser is strict: the first thing that is not HTML as it should be ends it. Standard output has `title`, the
`sections` by title with their `tables`, `lines` and `pictures`, all `tags`, and what the page `loads`.
"""
import json
import sys

import html5lib

HTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"


def text(element):
    return "".join(element.itertext())


def section(element):
    tables = [[[text(cell) for cell in row] for row in table.iter(f"{HTML}tr")] for table in element.iter(f"{HTML}table")]
    figures = list(element.iter(f"{HTML}figure"))
    return {
        "text": [text(one) for one in element.iter(f"{HTML}p")],
        "alarms": [text(one) for one in element.iter(f"{HTML}p") if one.get("class") == "alarm"],
        "tables": tables,
        "lines": [text(one) for one in element.iter(f"{HTML}pre")],
        "captions": [text(one) for figure in figures for one in figure.iter(f"{HTML}figcaption")],
        "shapes": [sum(1 for one in figure.iter() if one.tag in (f"{SVG}rect", f"{SVG}polyline")) for figure in figures],
    }


def main(file):
    with open(file, encoding="utf-8") as page:
        root = html5lib.HTMLParser(strict=True).parse(page)
    tags = sorted({element.tag.split("}")[-1] for element in root.iter() if isinstance(element.tag, str)})
    attributes = [(name.split("}")[-1], value) for element in root.iter() for name, value in element.attrib.items()]
    found = {
        "title": text(next(root.iter(f"{HTML}title"))),
        "sections": {text(next(one.iter(f"{HTML}h2"))): section(one) for one in root.iter(f"{HTML}section")},
        "tags": tags,
        "loads": [value for name, value in attributes if name in ("src", "href", "action", "data") or name.startswith("on")],
        "colours": sorted({value for name, value in attributes if name in ("fill", "stroke") and value != "none"}),
    }
    json.dump(found, sys.stdout)


main(*sys.argv[1:])
