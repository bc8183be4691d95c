from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from store.processes import ProcessMark, is_alive, is_gone, mark_process


def this_process() -> ProcessMark:
    mark = mark_process()
    assert mark is not None
    return mark


def test_this_process_is_alive_and_not_gone() -> None:
    assert is_alive(this_process())
    assert not is_gone(this_process())


def test_a_mark_survives_being_written_down() -> None:
    assert ProcessMark.parse(this_process().text) == this_process()


def test_what_is_not_a_mark_is_not_taken_for_one() -> None:
    for text in ("", "12", "pid.1.2.3.4", "1.2.3.4", "1.2.3.4.5.6"):
        assert ProcessMark.parse(text) is None


def test_an_ended_process_is_gone_even_before_its_parent_has_asked() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = mark_process(child.pid)
    assert mark is not None and is_alive(mark)
    child.kill()
    subprocess.run([sys.executable, "-c", "pass"], check=True)  # time for the kernel to make it a zombie
    assert is_gone(mark)
    child.communicate()
    assert is_gone(mark)


def test_a_pid_that_is_used_again_is_another_process() -> None:
    earlier = replace(this_process(), started="1")
    assert is_gone(earlier)
    assert not is_alive(earlier)


def test_nothing_outlives_a_reboot() -> None:
    assert is_gone(replace(this_process(), boot="another"))


def test_nothing_is_claimed_about_other_machines_and_containers() -> None:
    for elsewhere in ({"machine": "another"}, {"namespace": "another"}):
        assert not is_gone(replace(this_process(), started="1", **elsewhere))
        assert not is_alive(replace(this_process(), **elsewhere))
