/* SPDX-License-Identifier: MIT */
/*
 * resp_stream.h - a stream of requests that arrives in pieces, and what is read of it; for the test of the parser
 * and its fuzz target.
 */
#ifndef COIR_RESP_STREAM_H
#define COIR_RESP_STREAM_H

#include "../tools/kv/resp.h"

#include <stdlib.h>

/* Writes one complete request as [argument|argument]. */
static inline void describe(const struct request *r, struct buffer *out)
{
    buffer_print(out, "[");
    for (size_t i = 0; i < r->count; i++) {
        buffer_append(out, (struct bytes){"|", i > 0});
        buffer_append(out, request_argument(r, i));
    }
    buffer_print(out, "]");
}

/* A stream that arrives in `first` bytes and then in pieces of `step`. */
struct source {
    struct request request;
    const char *stream;
    size_t length, there, first, step;
};

/*
 * Delivers the next piece. What is not read yet moves to a block of its own, of exactly the bytes
 * that are there: bytes move between calls, and a sanitizer sees a look beyond the end.
 */
static inline bool next_piece(struct request *r)
{
    struct source *s = (struct source *)r;
    size_t kept = r->in.used - r->begin, piece = s->there == 0 ? s->first : s->step;
    char *data;

    if (piece > s->length - s->there)
        piece = s->length - s->there;
    if (piece == 0)
        return false;
    data = malloc(kept + piece);
    if (kept > 0)
        memcpy(data, r->in.data + r->begin, kept);
    memcpy(data + kept, s->stream + s->there, piece);
    free(r->in.data);
    r->in = (struct buffer){data, kept + piece, kept + piece, false};
    r->begin = 0;
    s->there += piece;
    return true;
}

/* Describes the requests that come out; a broken stream ends with !ERROR. */
static inline void read_in_pieces(const char *stream, size_t length, size_t first, size_t step,
                           struct buffer *out)
{
    struct source s = {{.more = next_piece}, stream, length, 0, first ? first : step, step};

    while (request_read(&s.request))
        describe(&s.request, out);
    if (s.request.error[0])
        buffer_print(out, "!%s", s.request.error);
    request_free(&s.request);
}

#endif
