/* SPDX-License-Identifier: MIT */
/*
 * resp.c - any bytes into coir-kv's parser: it reads the same requests however the stream is cut, and keeps
 * within its memory. The first byte says where to cut.
 */
#include "../resp_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buffer read_stream(const char *stream, size_t length, size_t first, size_t step)
{
    struct buffer out = {0};

    read_in_pieces(stream, length, first, step, &out);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *stream = (const char *)data + 1;
    struct buffer whole, pieces;

    if (size < 2)
        return -1;
    whole = read_stream(stream, size - 1, size - 1, 1);
    pieces = read_stream(stream, size - 1, data[0] % size, data[0] % 7 + 1);
    if (pieces.used != whole.used || (whole.used && memcmp(pieces.data, whole.data, whole.used) != 0))
        abort();
    buffer_free(&pieces);
    buffer_free(&whole);
    return 0;
}
