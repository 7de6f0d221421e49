"""DOT read back, line by line, as `to_dot` writes it."""

import re
from html import unescape

NODE = re.compile(r'\t+([\w]+) \[label=(<.*>|"(?:[^"\\]|\\.)*") shape="(\w+)".* tooltip="(.*)"\]$')
EDGE = re.compile(r"\t+(\w+) -> (\w+)(?: \[(.*)\])?$")
FRAME = re.compile(r'\t+subgraph "?([^"{]+?)"? \{$')
FRAME_LABEL = re.compile(r'\t+graph \[label="((?:[^"\\]|\\.)*)" .*\]$')
LABEL = re.compile(r'\bx?label="((?:[^"\\]|\\.)*)"')
ROW = re.compile(r"\t\{ rank=same; (.*) \}$")


class DotText:
    """The nodes, edges and frames of a picture.

    `labels` are the lines of each node without markup, `markup` the labels as they are, `frames`
    the labels of the frames around each node. `edges` are (tail, head, label, attributes) from
    operand to reader, also where the text has them the other way round; `hidden` the invisible.
    """

    def __init__(self, dot):
        self.source = dot if isinstance(dot, str) else dot.source
        self.labels, self.markup, self.shapes, self.tooltips, self.frames = {}, {}, {}, {}, {}
        self.edges, self.hidden, self.rows, inside = [], [], [], []
        for line in self.source.splitlines()[1:-1]:
            if FRAME.match(line):
                inside.append(None)
            elif inside and (match := FRAME_LABEL.match(line)):
                inside[-1] = match[1]
            elif line.strip() == "}":
                inside.pop()
            elif match := ROW.match(line):
                self.rows.append(match[1].split("; "))
            elif match := NODE.match(line):
                self._add_node(*match.groups(), inside)
            elif match := EDGE.match(line):
                self._add_edge(*match.groups())
        assert not inside
        for tail, head, *_ in self.edges + self.hidden:
            assert {tail, head} <= self.labels.keys()

    def _add_node(self, i, label, shape, tooltip, inside):
        assert i not in self.labels, f"{i} is declared twice"
        self.markup[i], self.shapes[i] = label, shape
        lines = label[1:-1].split("<br/>")
        self.labels[i] = [unescape(re.sub("<[^>]*>", "", line)) for line in lines]
        self.tooltips[i] = tooltip.split("&#10;")
        self.frames[i] = list(inside)

    def _add_edge(self, tail, head, attributes):
        if attributes and "invis" in attributes:
            self.hidden.append((tail, head))
            return
        if "dir=back" in (attributes or ""):
            tail, head = head, tail
        match = LABEL.search(attributes or "")
        label = [line.strip() for line in match[1].split("\\n")] if match else []
        self.edges.append((tail, head, label, attributes or ""))

    def label(self, i):
        """The lines of a label, set apart by bars."""
        return "|".join(self.labels[i])

    def between(self, tail, head):
        """The labels of the edges from one id to another."""
        return ["|".join(label) for a, b, label, _ in self.edges if (a, b) == (tail, head)]

    def heading(self):
        """The words of the heading and the legend."""
        (line,) = (x for x in self.source.splitlines() if x.startswith("\tgraph ["))
        return re.findall(r">([^<>]+)</", unescape(line))
