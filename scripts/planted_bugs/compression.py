"""Planted bugs in what travels compressed, and in what is imported late."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    Bug(
        "a peer makes this end unpack whatever it likes",
        "wire.compressed:unpacked",
        "max_length=total + 1",
        "max_length=-1",
        "test_nobody_is_made_to_unpack_more_than_was_said",
    ),
    Bug(
        "a peer says that its payloads are of any size",
        "wire.compressed:unpacked",
        "if not 0 < total <= MOST_BYTES:",
        "if False:",
        "test_what_is_not_what_it_is_said_to_be_is_a_breach",
    ),
    Bug(
        "a peer has many payloads unpacked that are small one by one",
        "wire.compressed:check_sizes",
        "if total > MOST_BYTES:",
        "if False:",
        "test_all_that_a_frame_would_unpack_to_is_looked_at_before_any_of_it",
    ),
    Bug(
        "a peer's data ask for a window of any size",
        "wire.compressed:",
        "_WINDOW_LOG = MOST_BYTES.bit_length() - 1",
        "_WINDOW_LOG = 27",
        "test_a_window_beyond_what_may_be_unpacked_is_not_kept",
    ),
    Bug(
        "what stands behind compressed payloads is passed over",
        "wire.compressed:unpacked",
        " or unpacker.unused_data:",
        ":",
        "test_what_is_not_what_it_is_said_to_be_is_a_breach",
    ),
    Bug(
        "what does not become smaller is compressed all the same",
        "wire.compressed:_packed",
        "if len(packed) * 16 < len(data) * 15 else None",
        "if packed else None",
        "test_what_does_not_pay_goes_as_it_is",
    ),
    Bug(
        "more is compressed than a peer unpacks",
        "wire.compressed:_compressed",
        "if not LEAST_BYTES <= sum(sizes) <= most:",
        "if not LEAST_BYTES <= sum(sizes):",
        "test_no_more_is_compressed_than_a_frame_may_unpack_to",
    ),
    Bug(
        "a client compresses for a server that cannot read it",
        "Attempt.compression",
        "return level if level and features and compression.FEATURE in features else 0",
        "return level",
        "test_a_client_compresses_what_its_server_can_read",
    ),
    Bug(
        "a server compresses for a client that has not asked",
        "protocol.server.opening:agree",
        "compression=offer.compression if compression.FEATURE in opened.features else 0,",
        "compression=offer.compression,",
        "test_a_server_compresses_for_those_who_ask",
    ),
    Bug(
        "a service that reads its frames gets compressed ones",
        "Kit.__init__",
        "if unread and available() else 0",
        "if available() else 0",
        "test_a_service_that_reads_its_frames_gets_them_as_they_are",
    ),
    Bug(
        "chunks go as they are",
        "wire.compressed:_compressed_chunk",
        "return chunk if packed is None else replace(",
        "return chunk if True else replace(",
        "test_chunks_do_too",
    ),
    Bug(
        "whoever cannot compress is not told",
        "session.arguments:check_compression",
        "if flow.compression_level and not available():",
        "if False:",
        "test_without_the_module_it_cannot_be_asked_for",
    ),
    Bug(
        "type checkers see a name elsewhere than it is imported from",
        ":",
        '    "outputs": "NoOutput Numbered Seam SeamKind",\n',
        '    "outputs": "NoOutput Numbered Seam",\n    "events": "SeamKind",\n',
        "test_type_checkers_see_each_name_where_it_is_imported_from",
    ),
)
