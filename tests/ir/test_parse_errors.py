"""Texts that are no graph: what the error says, and where it points."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir.ir import Op, OpError, ParseError, TensorType, parse, print_graph, verify
from tests.passes.random_graphs import Sample, samples


def body(lines: str, results: str = "f32[2]") -> str:
    return f"graph @f(%x: f32[2], %n: i64[2]) -> {results} {{\n{lines}\n}}"


BROKEN = [
    ("", 1, 1, "expected `graph`, which every graph begins with, found the end of the text"),
    ("module @f", 1, 1, "expected `graph`, which every graph begins with, found `module`"),
    ("graph f()", 1, 7, "expected `@` and the name of the graph, found `f`"),
    ("graph @()", 1, 8, "expected the name of the graph, found `(`"),
    ("graph @f(x: f32[])", 1, 10, "expected an input, such as %x, or `)`, found `x`"),
    ("graph @f(%x f32[])", 1, 13, "expected `:` and the type of the input, found `f32[]`"),
    ("graph @f(%x: f32)", 1, 14, "expected a type, such as f32[2,3], found `f32`"),
    ("graph @f(%x: f8[2])", 1, 14, "there is no dtype f8; the dtypes are bool, i8, i16, i32, i64, "
     "u8, u16, u32, u64, f16, f32, f64"),
    ("graph @f(%x: f32[2 3])", 1, 14, "f32[2 3] is no type: its shape is not a list of lengths"),
    ("graph @f(%x: f32[-1])", 1, 14, "expected a type, such as f32[2,3], found `f32`"),
    ("graph @f(%x: f32[] %y", 1, 20, "expected `,` or `)`, found `%y`"),
    ("graph @f(%x: f32[], %x: f32[])", 1, 21, "%x is defined twice"),
    ("graph @f(%x: f32[] {size=1})", 1, 21,
     "expected `name`: an input has no other attribute, found `size`"),
    ("graph @f() {", 1, 12, "expected `->` and the types of the results, found `{`"),
    ("graph @f() -> () {\n  return\n} graph", 3, 3,
     "expected the end of the text after the graph, found `graph`"),
    (body("  exp(%x)"), 2, 3, "expected a node such as `%0 = exp(%x) : f32[2]`, or `return`, "
     "found `exp`"),
    (body("  %0 = expp(%x) : f32[2]"), 2, 8, "there is no op expp; did you mean exp or expm1? "
     "(a composite is known once the module is imported that defines it; the command line takes "
     "--load FILE.py)"),
    (body("  %0 = input() : f32[2]"), 2, 8,
     "inputs stand in the head of the graph: graph @f(%x: f32[2])"),
    (body("  %0 exp(%x)"), 2, 6, "expected `=` and what the value is, found `exp`"),
    (body("  %0 = exp %x"), 2, 12, "expected `(` and the operands, found `%x`"),
    (body("  %0 = exp(%y) : f32[2]"), 2, 12, "%y is not defined before it is read"),
    (body("  %total = exp(%x) : f32[2]\n  return %totl"), 3, 10,
     "%totl is not defined before it is read; did you mean %total?"),
    (body("  %0 = exp(%0) : f32[2]"), 2, 12, "%0 is not defined before it is read"),
    (body("  %0 = exp(%x)\n  return %0"), 3, 3,
     "expected `:` and the type of the result, found `return`"),
    (body("  %0 = exp(%x) : f32[3]"), 2, 18, "exp(f32[2]) is f32[2], not f32[3]"),
    (body("  %0 = exp(%x) : f64[2]"), 2, 18, "exp(f32[2]) is f32[2], not f64[2]"),
    (body("  %0 = exp(%n) : i64[2]"), 2, 8,
     "exp(i64[2]): the operands need one dtype; write casts"),
    (body("  %0 = add(%x, %n) : f32[2]"), 2, 8,
     "add(f32[2], i64[2]): the operands need one dtype; write casts"),
    (body("  %x = exp(%x) : f32[2]"), 2, 3, "%x is defined twice"),
    (body("  %0 = exp(%x) {a=1} : f32[2]"), 2, 8, None),
    (body("  %0 = reshape(%x) {shape=[3]} : f32[3]"), 2, 8,
     "reshape(f32[2]): 2 elements do not fill the shape (3,)"),
    (body('  %0 = reshape(%x) {shape="a"} : f32[2]'), 2, 8,
     "reshape(f32[2]): integers are needed, not 'a'"),
    (body("  %0 = sum(%x) {axes=[0]} : f32[]"), 2, 8, None),
    (body("  %0 = sum(%x) {axes=[0], axes=[0]} : f32[]"), 2, 27,
     "the attribute axes is given twice"),
    (body("  %0 = sum(%x) {axes [0]} : f32[]"), 2, 22, "expected `=` and the value of axes, "
     "found `[`"),
    (body("  %0 = sum(%x) {axes=[0 1]} : f32[]"), 2, 25, "expected `,` or `]`, found `1`"),
    (body("  %0 = sum(%x) {axes=%x} : f32[]"), 2, 22,
     "expected the value of an attribute, found `%x`"),
    (body("  %0 = sum(%x) {axes=all} : f32[]"), 2, 22, "`all` is no value: a value is a number, "
     "true, false, none, inf, nan, a string in quotes, a dtype, an array such as "
     "f32[2]([0.5, 1.0]), a list of values, or a graph"),
    (body("  %0 = sum(%x) {axes=0xff} : f32[]"), 2, 22,
     "0xff gives the bits of a float in an array; it is no value elsewhere"),
    (body('  %0 = sum(%x) {axes="\n"} : f32[]'), 2, 22, "the string is not closed on its line"),
    (body(r'  %0 = sum(%x) {axes="\x"} : f32[]'), 2, 22,
     r"the string can not be read: Invalid \escape; escapes are those of JSON"),
    (body("  %0 = sum(%x) ! : f32[]"), 2, 16, "'!' has no meaning here"),
    (body("  %0 = constant : f32[]"), 2, 17,
     "expected `{value=` and the elements of the constant, found `:`"),
    (body("  %0 = constant {v=1} : f32[]"), 2, 18,
     "expected `value`: a constant has no other attribute, found `v`"),
    (body("  %0 = constant {value=<9 elements>} : f32[9]"), 2, 24, "`<9 elements>` was left out "
     "when this was printed; print the graph in full, with graph.format(full=True) or "
     "--full-constants"),
    (body("  %0 = constant {value=[1.0, 2.0]} : f32[3]"), 2, 24,
     "axis 0 of f32[3] needs a list of 3, this is a list of 2"),
    (body("  %0 = constant {value=1.0} : f32[3]"), 2, 24,
     "axis 0 of f32[3] needs a list of 3, this is `1.0`"),
    (body("  %0 = constant {value=[1.0]} : f32[]"), 2, 24, "an element of f32[] is no list"),
    (body("  %0 = constant {value=1.5} : i32[]"), 2, 24, "`1.5` is no int32"),
    (body("  %0 = constant {value=300} : u8[]"), 2, 24, "`300` is no uint8"),
    (body("  %0 = constant {value=1} : bool[]"), 2, 24, "`1` is no bool"),
    (body("  %0 = constant {value=true} : f32[]"), 2, 24, "`true` is no float32"),
    (body("  %0 = constant {value=1e39} : f32[]"), 2, 24, "`1e39` is no float32"),
    (body("  %0 = constant {value=1e400} : f64[]"), 2, 24, "`1e400` is no float64"),
    (body("  %0 = constant {value=0x7fc0} : f32[]"), 2, 24, "`0x7fc0` is no float32"),
    (body('  %0 = constant {value=base64"AAA"} : f32[]'), 2, 24,
     "this is no base64: Incorrect padding"),
    (body('  %0 = constant {value=base64"AAAA"} : f32[]'), 2, 24,
     "f32[] has 4 bytes, these are 3"),
    (body(f"  %0 = constant {{value={'[' * 5000}"), 2, 125, "nested deeper than 100 levels"),
    (body(f"  %0 = sum(%x) {{axes={'[' * 5000}"), 2, 123, "nested deeper than 100 levels"),
    (body("  %0 = random_bernoulli() {p=2, shape=[]} : bool[]"), 2, 8,
     "random_bernoulli(): the probability p is 2.0; it must lie in [0, 1]"),
    (body("  effects %x\n  return %x"), 2, 11, "input has no effect"),
    (body("  %0 = random_normal() {dtype=f32, mean=0, shape=[], std=1} : f32[]\n  effects %0, %0"),
     3, 15, "this effect is listed twice"),
    (body("  unused %x\n  unused %x\n  return %x"), 3, 3,
     "expected a node such as `%0 = exp(%x) : f32[2]`, or `return`, found `unused`"),
    (body("  return %n"), 2, 10, "this is i64[2], and the head of the graph promises f32[2]"),
    (body("  return"), 2, 3, "the graph returns 0 values, and its head promises 1"),
    (body("  return %x, %x"), 2, 3, "the graph returns 2 values, and its head promises 1"),
    (body("  return %x %x"), 2, 13, "expected `,` or `}`, found `%x`"),
    (body("  %0 = exp(%x) : f32[2]"), 3, 1,
     "expected a node such as `%0 = exp(%x) : f32[2]`, or `return`, found `}`"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "line", "column", "reason"), BROKEN)
def test_broken_texts(broken: str, line: int, column: int, reason: str | None) -> None:
    with pytest.raises(ParseError) as error:
        parse(broken)
    assert (error.value.line, error.value.column) == (line, column)
    if reason is not None:
        assert error.value.reason == reason
    assert str(error.value).startswith(f"line {line}, column {column}: {error.value.reason}\n")


def test_a_number_of_too_many_digits() -> None:
    with pytest.raises(ParseError, match="Exceeds the limit"):
        parse(body(f"  %0 = sum(%x) {{axes={'9' * 5000}}} : f32[]"))


def test_an_error_points_at_its_place() -> None:
    with pytest.raises(ParseError) as error:
        parse(body("\t %0 = expp(%x) : f32[2]"))
    _, shown, mark = str(error.value).split("\n")
    assert shown == "    %0 = expp(%x) : f32[2]"
    assert shown[mark.index("^") :].startswith("expp")
    assert isinstance(error.value, ValueError)


def test_a_long_line_is_cut() -> None:
    long = ", ".join(["1.0"] * 5000)
    with pytest.raises(ParseError) as error:
        parse(body(f"  %0 = constant {{value=[{long}, x]}} : f32[5001]"))
    assert len(str(error.value)) < 400
    _, shown, mark = str(error.value).split("\n")
    assert shown[mark.index("^")] == "x"


def test_missing_attributes_are_named() -> None:
    with pytest.raises(ParseError, match=r"sum\(f32\[2\]\): missing 1 .*'keepdims'"):
        parse(body("  %0 = sum(%x) {axes=[0]} : f32[]"))
    with pytest.raises(ParseError, match=r"exp\(f32\[2\]\): got an unexpected .*'a'"):
        parse(body("  %0 = exp(%x) {a=1} : f32[2]"))


def test_an_op_that_fails_says_why() -> None:
    def infer(x: TensorType) -> TensorType:
        raise OpError("no luck")

    op = Op(name="unlucky", infer=infer)
    with pytest.raises(ParseError, match=r"unlucky\(f32\[2\]\): no luck"):
        parse(body("  %0 = unlucky(%x) : f32[2]"), ops={"unlucky": op})


@settings(max_examples=300, derandomize=True, deadline=None)
@given(samples(), st.data())
def test_a_damaged_text_gives_a_graph_or_a_parse_error(sample: Sample, data: Any) -> None:
    whole = print_graph(sample.graph, full=True, origins=False)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 8)))
    put = data.draw(st.sampled_from(["", " ", "%0", "[", "}", "1", '"', "f32[2]", "@", "-", "\n"]))
    try:
        graph = parse(whole[:start] + put + whole[end:])
    except ParseError:
        return
    verify(graph)


def test_nothing_is_evaluated() -> None:
    evil = "__import__('os').system('true')"
    for lines in (f"  %0 = {evil} : f32[2]", f"  %0 = sum(%x) {{axes={evil}}} : f32[]"):
        with pytest.raises(ParseError):
            parse(body(lines))
