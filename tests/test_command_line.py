"""What the repository's commands have in common."""

import argparse
import os
import signal

import pytest

from command_line import interrupt_on_sigterm, positive, several


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_number_is_whole_and_positive(text):
    assert positive("7") == 7
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
        positive(text)


def test_names_come_as_they_were_given():
    assert several(["a", "b", "c"])(" c, a,") == ["c", "a"]


@pytest.mark.parametrize("text", ["d", "a,d", ""])
def test_what_is_not_known_is_refused_with_what_is(text):
    with pytest.raises(argparse.ArgumentTypeError, match="of a, b, with commas between"):
        several(["a", "b"])(text)


def test_there_may_be_no_name_where_that_is_said():
    assert several(["a"], or_none=True)("") == []


def test_sigterm_ends_it_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    try:
        interrupt_on_sigterm()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    finally:
        signal.signal(signal.SIGTERM, before)
