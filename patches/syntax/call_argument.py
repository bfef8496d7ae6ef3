"""Adds an argument to a call in the layout that the call has."""

import libcst as cst


def with_last_argument(call: cst.Call, argument: cst.Arg) -> cst.Call:
    """The call with `argument` behind its others: on a line of its own and before a comma if they are."""
    if not call.args:
        return call.with_changes(args=[argument])
    *others, last = call.args
    between, end = _separator(call, others), last.comma
    if not isinstance(end, cst.Comma):
        new = argument.with_changes(whitespace_after_arg=last.whitespace_after_arg)
        last = last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace(""))
        return call.with_changes(args=[*others, last, new])
    here, end = _keep_comment(between, end)
    return call.with_changes(args=[*others, last.with_changes(comma=here), argument.with_changes(comma=end)])


def _separator(call: cst.Call, others: list[cst.Arg]) -> cst.Comma:
    """What stands between two arguments of the call, without a comment."""
    layout = others[-1].comma.whitespace_after if others else call.whitespace_before_args
    if isinstance(layout, cst.ParenthesizedWhitespace):
        return cst.Comma(whitespace_after=_plain(layout))
    return cst.Comma(whitespace_after=layout if others else cst.SimpleWhitespace(" "))


def _keep_comment(between: cst.Comma, end: cst.Comma) -> tuple[cst.Comma, cst.Comma]:
    """The commas behind the argument that was last and behind the new one; a comment stays with the former."""
    old, new = between.whitespace_after, end.whitespace_after
    if not (isinstance(old, cst.ParenthesizedWhitespace) and isinstance(new, cst.ParenthesizedWhitespace)):
        return between, end
    old = old.with_changes(first_line=new.first_line)
    return between.with_changes(whitespace_after=old), end.with_changes(whitespace_after=_plain(new))


def _plain(layout: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    first = layout.first_line.with_changes(whitespace=cst.SimpleWhitespace(""), comment=None)
    return layout.with_changes(first_line=first, empty_lines=[])
