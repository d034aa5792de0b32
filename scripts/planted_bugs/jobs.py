"""Planted bugs in jobs, which outlive their process."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    Bug(
        "what a job counts is not durable yet",
        "Job.save",
        "        os.fsync(self._output.fileno())\n",
        "",
        "test_killed_at_any_write_it_ends_as_undisturbed",
    ),
    Bug(
        "a job counts results of an item that has more",
        "Job.save",
        "written=self._whole,",
        "written=self._written,",
        "test_killed_at_any_write_it_ends_as_undisturbed",
    ),
    Bug(
        "a torn end of the output is left there",
        "open_output",
        "    file.truncate(written)\n",
        "",
        "test_what_stands_behind_what_is_counted_is_cut_off",
    ),
    Bug(
        "a torn record of the journal hides those behind it",
        "Journal._read",
        "        os.ftruncate(self._descriptor, whole)\n"
        "        os.lseek(self._descriptor, whole, os.SEEK_SET)\n",
        "        os.lseek(self._descriptor, 0, os.SEEK_END)\n",
        "test_a_torn_record_does_not_count_and_the_next_ones_do",
    ),
    Bug(
        "any line of the journal is a record",
        "_record",
        'checksum != b"%08x" % zlib.crc32(text[:-1])',
        "len(checksum) != 8",
        "test_a_torn_record_does_not_count_and_the_next_ones_do",
    ),
    Bug(
        "an input that was changed is gone on with",
        "Source.go_to",
        "if place.bytes and self.digest.hexdigest() != place.digest:",
        "if False:",
        "test_an_input_that_was_changed_or_cut_is_another",
    ),
    Bug(
        "blank lines before an item are not read for it",
        "Source._lines",
        "                before += raw\n",
        "",
        "test_behind_any_item_the_rest_is_found_again",
    ),
    Bug(
        "items that are left out are not counted",
        "Job.number_of",
        " + bisect_right(self._gaps, sent)",
        "",
        "test_killed_at_any_write_it_ends_as_undisturbed",
    ),
    Bug(
        "what was not written is noted in the end",
        "Job.save_what_can_be",
        "        if self._sound:\n",
        "        if True:\n",
        "test_what_could_not_be_written_is_not_noted",
    ),
    Bug(
        "who waits for the oldest item is not woken",
        "Job._end",
        "        if far:\n",
        "        if self._pulled - self.items > _MOST_BEYOND // 2:\n",
        "test_an_unordered_job_does_not_run_away_from_its_oldest_item",
    ),
    Bug(
        "two processes work on one job",
        "open_journal",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            pass\n",
        "test_two_processes_do_not_work_on_one_job",
    ),
    Bug(
        "a retry that was decided is forgotten with its process",
        "finish_replacement",
        "    if not journal.replacing:\n",
        "    if True:\n",
        "test_what_was_decided_is_done_whenever_the_process_died",
    ),
    Bug(
        "a retry leaves the failures where they were",
        "_Page.add",
        "            self._copy(item.start, go_on_at=item.end)\n",
        "            self._copy(item.end, go_on_at=item.end)\n",
        "test_results_come_into_the_places_of_failures",
    ),
    Bug(
        "a journal speaks of results that are no longer there",
        "_leave_job",
        "            journal.path.unlink()\n",
        "            pass\n",
        "test_a_journal_does_not_outlive_its_output",
    ),
    Bug(
        "an error of a job counts from where it went on",
        "_run",
        "                    result.number = number\n",
        "",
        "test_a_job_that_an_item_ended_goes_on_behind_it",
    ),
    Bug(
        "SIGHUP ends the command without a word",
        "heeded",
        "(signal.SIGTERM, signal.SIGHUP)",
        "(signal.SIGTERM,)",
        "test_a_signal_ends_it_in_order",
    ),
)
