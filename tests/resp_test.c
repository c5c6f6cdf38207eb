/* SPDX-License-Identifier: MIT */
/*
 * resp_test.c - tools/kv/resp.c: requests come out the same however the stream is cut, no stream
 * of bytes does harm or costs memory in advance, and replies are what RESP2 says.
 */
#include "check.h"

#include "resp_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define STREAM_MAX 4096

/* What a stream means, terminated: the same whether whole or cut at any place or into bytes. */
static struct buffer meaning_of(const char *stream, size_t length)
{
    struct buffer whole = {0};

    read_in_pieces(stream, length, length, 1, &whole);
    for (size_t cut = 0; cut <= length; cut++) {
        struct buffer pieces = {0};

        read_in_pieces(stream, length, cut, cut % 3 ? length : 1, &pieces);
        if (CHECK_EQ(pieces.used, whole.used) && whole.used > 0)
            CHECK(memcmp(pieces.data, whole.data, whole.used) == 0);
        buffer_free(&pieces);
    }
    buffer_append(&whole, (struct bytes){"", 1});
    return whole;
}

static void means(const char *stream, const char *expected)
{
    struct buffer meaning = meaning_of(stream, strlen(stream));

    CHECK_STR(meaning.data, expected);
    buffer_free(&meaning);
}

/* -------------------------------------------------------------------------------- requests */

static void an_array_gives_its_arguments(void)
{
    means("*1\r\n$4\r\nPING\r\n", "[PING]");
    means("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "[SET|k|]");
    means("*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", "[GET|\r\n\r\n]");
}

static void pipelined_requests_come_one_by_one(void)
{
    means("*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\nPING\r\n*1\r\n$1\r\nc\r\n", "[a][b][PING][c]");
}

static void an_unfinished_request_is_no_request(void)
{
    means("", "");
    means("*", "");
    means("*2\r\n$3\r\nGET\r\n", "");
    means("*1\r\n$4\r\nPING\r", "");
    means("PING", "");
}

static void an_empty_request_asks_for_nothing(void)
{
    means("*0\r\n*-1\r\n\r\n  \r\nPING\r\n", "[][][][][PING]");
}

static void arguments_hold_any_byte(void)
{
    static const char stream[] = "*1\r\n$5\r\n\0\r\n\xff\0\r\n";
    struct buffer meaning = meaning_of(stream, sizeof stream - 1);

    CHECK_EQ(meaning.used, 8);
    CHECK(memcmp(meaning.data, "[\0\r\n\xff\0]", 8) == 0);
    buffer_free(&meaning);
}

static void an_inline_line_is_split_into_words(void)
{
    means("SET  key\tvalue\r\n", "[SET|key|value]");
    means("PING\n", "[PING]");
}

static void quotes_in_a_line_work_as_in_redis(void)
{
    means("SET k \"a b\"\r\n", "[SET|k|a b]");
    means("ECHO 'a \"b\" \\'c\\' \\n'\r\n", "[ECHO|a \"b\" 'c' \\n]");
    means("ECHO \"\\x41\\x4a\\n\\t\\\"\\\\\\q\\xzz\"\r\n", "[ECHO|AJ\n\t\"\\qxzz]");
    means("ECHO \"\" ''\r\n", "[ECHO||]");
    means("ECHO a\"b c\"\r\n", "[ECHO|ab c]");
}

static void unbalanced_quotes_break_the_stream(void)
{
    means("ECHO \"a\r\n", "!unbalanced quotes in request");
    means("ECHO 'a\r\n", "!unbalanced quotes in request");
    means("ECHO \"a\"b\r\n", "!unbalanced quotes in request");
    means("ECHO \"a\\\r\n", "!unbalanced quotes in request");
    means("ECHO \"a\\x4\r\n", "!unbalanced quotes in request");
}

static void a_bad_count_breaks_the_stream(void)
{
    means("*x\r\n", "!invalid multibulk length");
    means("*\r\n", "!invalid multibulk length");
    means("*1\n", "!invalid multibulk length");
    means("*1\n$4\r\nPING\r\n", "!invalid multibulk length");
    means("*01\r\n$4\r\nPING\r\n", "!invalid multibulk length");
    means("*\r\n$4\r\nPING\r\n", "!invalid multibulk length");
    means("*+1\r\n", "!invalid multibulk length");
    means("*1 \r\n", "!invalid multibulk length");
    means("*65537\r\n", "!invalid multibulk length");
    means("*99999999999999999999\r\n", "!invalid multibulk length");
    means("*00000000000000000000000000000000000000000000001\r\n", "!invalid multibulk length");
    means("*-9223372036854775808\r\nPING\r\n", "[][PING]");
}

static void a_bad_length_breaks_the_stream(void)
{
    means("*1\r\n$x\r\n", "!invalid bulk length");
    means("*1\r\n$-1\r\n", "!invalid bulk length");
    means("*1\r\n$04\r\nPING\r\n", "!invalid bulk length");
    means("*1\r\n$-1\r\nPING\r\n", "!invalid bulk length");
    means("*1\r\n$536870912\r\n", "!invalid bulk length");
    means("*1\r\n$8388609\r\n", "!invalid bulk length");
    means("*1\r\n$18446744073709551615\r\n", "!invalid bulk length");
    means("*1\r\n$8388608\r\n", "");
    means("*1\r\n:1\r\n", "!expected '$', got ':'");
    means("*1\r\n\x01", "!expected '$', got '?'");
}

static void a_missing_line_end_breaks_the_stream(void)
{
    means("*1\r\n$4\r\nPINGxx", "!expected CRLF after bulk");
    means("*1\r\n$4\r\nPING\rx", "!expected CRLF after bulk");
    means("*1\r\n$4\r\nPINGPONG\r\n", "!expected CRLF after bulk");
}

static void an_endless_line_breaks_the_stream(void)
{
    size_t length = REQUEST_INLINE_BYTES_MAX + 1;
    char *line = malloc(length);
    struct buffer out = {0};

    memset(line, 'a', length);
    read_in_pieces(line, length, 1000, 1000, &out);
    buffer_append(&out, (struct bytes){"", 1});
    CHECK_STR(out.data, "!too big inline request");
    buffer_free(&out);
    free(line);
}

static void a_request_beyond_the_limit_breaks_the_stream(void)
{
    static const char header[] = "*3\r\n$8388608\r\n", next[] = "\r\n$8388608\r\n";
    size_t length = sizeof header - 1 + REQUEST_ARGUMENT_BYTES_MAX + sizeof next - 1;
    char *stream = calloc(1, length);
    struct source s = {{.more = next_piece}, stream, length, 0, length, 1};

    memcpy(stream, header, sizeof header - 1);
    memcpy(stream + length - (sizeof next - 1), next, sizeof next - 1);
    CHECK(!request_read(&s.request));
    CHECK_STR(s.request.error, "too big request");
    request_free(&s.request);
    free(stream);
}

static void a_stream_may_have_a_smaller_limit(void)
{
    static const char stream[] = "*2\r\n$3\r\nGET\r\n$7\r\nsomekey\r\n";

    for (size_t max = 1; max < 64; max++) {
        struct source s = {{.more = next_piece}, stream, sizeof stream - 1, 0, sizeof stream - 1, 1};

        s.request.bytes_max = max;
        CHECK_EQ(request_read(&s.request), max >= sizeof stream - 1 - 2);
        CHECK_STR(s.request.error, s.request.count == 2 ? "" : "too big request");
        request_free(&s.request);
    }
}

/* `more` has had nothing, which between two requests is not the end of the stream. */
static void reading_goes_on_when_there_is_more_again(void)
{
    static const char stream[] = "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n";
    size_t half = (sizeof stream - 1) / 2;
    struct source s = {{.more = next_piece}, stream, half, 0, half, half};

    CHECK(request_read(&s.request));
    CHECK(!request_read(&s.request));
    CHECK(!request_waits(&s.request, 0));
    CHECK(s.request.in.data == NULL);
    s.length = 2 * half;
    CHECK(request_read(&s.request));
    CHECK(bytes_are(request_argument(&s.request, 0), "quit"));
    request_free(&s.request);
}

static void what_waits_behind_a_request_is_known_and_kept(void)
{
    static const char stream[] = "PING\r\nQUIT\r\n";
    struct source s = {{.more = next_piece}, stream, sizeof stream - 1, 0, sizeof stream - 1, 1};

    CHECK(request_read(&s.request));
    CHECK(request_waits(&s.request, 0));
    CHECK(request_read(&s.request));
    CHECK(bytes_are(request_argument(&s.request, 0), "quit"));
    CHECK(!request_waits(&s.request, sizeof stream));
    CHECK(s.request.in.data != NULL);
    CHECK_EQ(s.request.in.used, 0);
    request_free(&s.request);
}

static void memory_beyond_what_is_kept_is_given_back(void)
{
    static const char stream[] = "a b c d e f g h i\r\n", next[] = "PING\r\n";
    struct source s = {{.more = next_piece}, stream, sizeof stream - 1, 0, 1, 1};
    size_t spans;

    CHECK(request_read(&s.request));
    spans = s.request.room * sizeof *s.request.span;
    CHECK(!request_waits(&s.request, spans));
    CHECK(s.request.span != NULL);
    CHECK(!request_waits(&s.request, spans - 1));
    CHECK(s.request.span == NULL);
    s = (struct source){s.request, next, sizeof next - 1, 0, 1, 1};
    CHECK(request_read(&s.request));
    CHECK(bytes_are(request_argument(&s.request, 0), "ping"));
    request_free(&s.request);
}

/* The array of spans follows what has arrived. */
static void a_large_count_allocates_nothing_in_advance(void)
{
    static const char stream[] = "*65536\r\n$1\r\na\r\n$8388608\r\nb";
    struct source s = {{.more = next_piece}, stream, sizeof stream - 1, 0, 1, 1};

    CHECK(!request_read(&s.request));
    CHECK_STR(s.request.error, "");
    CHECK(s.request.room <= 8);
    CHECK_EQ(s.request.in.room, sizeof stream - 1);
    request_free(&s.request);
}

static void as_many_arguments_as_allowed_are_read(void)
{
    struct buffer stream = {0};
    struct source s = {.request = {.more = next_piece}, .step = 1};

    buffer_print(&stream, "*%d\r\n", REQUEST_ARGUMENTS_MAX);
    for (int i = 0; i < REQUEST_ARGUMENTS_MAX; i++)
        buffer_print(&stream, "$1\r\n%d\r\n", i % 10);
    s.stream = stream.data;
    s.length = s.first = stream.used;
    CHECK(request_read(&s.request));
    CHECK_EQ(s.request.count, REQUEST_ARGUMENTS_MAX);
    CHECK_EQ(s.request.at, stream.used);
    CHECK_EQ(*request_argument(&s.request, 12345).data, '5');
    request_free(&s.request);
    buffer_free(&stream);
}

static void as_many_words_as_fit_a_line_are_read(void)
{
    const size_t length = REQUEST_INLINE_BYTES_MAX + 1;
    char *line = malloc(length);
    struct source s = {{.more = next_piece}, line, length, 0, length, 1};

    for (size_t i = 0; i < REQUEST_INLINE_BYTES_MAX; i++)
        line[i] = i % 2 ? ' ' : 'w';
    line[REQUEST_INLINE_BYTES_MAX] = '\n';
    CHECK(request_read(&s.request));
    CHECK_EQ(s.request.count, REQUEST_INLINE_BYTES_MAX / 2);
    request_free(&s.request);
    free(line);
}

/* xorshift64: the same bytes in every run. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void random_streams_mean_the_same_however_cut(void)
{
    static const char alphabet[] = "*$0123456789-\r\n\r\n\r\n\"'\\x ab";
    uint64_t seed = 88172645463325252;

    for (int round = 0; round < 3000; round++) {
        char stream[48];
        size_t length = next_random(&seed) % sizeof stream;
        struct buffer meaning;

        for (size_t i = 0; i < length; i++)
            stream[i] = round % 4 ? alphabet[next_random(&seed) % (sizeof alphabet - 1)]
                                  : (char)next_random(&seed);
        if (round % 2 && length > 0)
            stream[0] = '*';
        meaning = meaning_of(stream, length);
        buffer_free(&meaning);
    }
}

/* Sound requests with one byte changed: near misses find more than noise. */
static void spoiled_requests_do_no_harm(void)
{
    static const char sound[] =
        "*3\r\n$3\r\nSET\r\n$2\r\nab\r\n$12\r\nhello world!\r\nPING 'a'\r\n";
    uint64_t seed = 2463534242;

    for (size_t i = 0; i < sizeof sound - 1; i++) {
        for (int round = 0; round < 16; round++) {
            char stream[sizeof sound];
            struct buffer meaning;

            memcpy(stream, sound, sizeof sound);
            stream[i] = (char)next_random(&seed);
            meaning = meaning_of(stream, sizeof sound - 1);
            buffer_free(&meaning);
        }
    }
}

/* ----------------------------------------------------------------------------------- words */

static bool is(const char *text, const char *word)
{
    return bytes_are((struct bytes){text, strlen(text)}, word);
}

static void words_are_the_same_in_any_case(void)
{
    CHECK(is("get", "get") && is("GET", "get") && is("gEt", "GeT") && is("", ""));
    CHECK(is("NATIVE-crash", "native-crash"));
    CHECK(!is("ge", "get") && !is("gets", "get") && !is("", "get") && !is("get", ""));
    CHECK(!is("native\rcrash", "native-crash")); /* they differ as the cases of a letter do */
    CHECK(!is("[", "{") && !is("@", "`"));
    CHECK(!bytes_are((struct bytes){"get\0", 4}, "get"));
    CHECK(!bytes_are((struct bytes){"\0", 1}, ""));
}

/* -------------------------------------------------------------------------------- integers */

static bool is_integer(const char *text, int64_t *value)
{
    return bytes_integer((struct bytes){text, strlen(text)}, value);
}

static void integers_have_one_form(void)
{
    static const char *const bad[] = {"",   "-",  "+1",  "01",  "-0",  "1 ",
                                      " 1", "1a", "--1", "1-1", "0x1", "123456789012345678901"};
    int64_t value = 0;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!is_integer(bad[i], &value));
    CHECK(is_integer("0", &value) && value == 0);
    CHECK(is_integer("-12", &value) && value == -12);
}

static void integers_reach_their_limits_and_no_further(void)
{
    int64_t value = 0;

    CHECK(is_integer("9223372036854775807", &value) && value == INT64_MAX);
    CHECK(is_integer("-9223372036854775808", &value) && value == INT64_MIN);
    CHECK(!is_integer("9223372036854775808", &value));
    CHECK(!is_integer("-9223372036854775809", &value));
}

static void integers_are_written_as_they_are_read(void)
{
    static const int64_t values[] = {0, 1, -1, 9, 10, -10, 99, 100, 1234567890, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[BYTES_INTEGER_MAX], digits[32];
        int64_t value = 0;

        CHECK_EQ(bytes_from_integer(text, values[i]), snprintf(digits, sizeof digits, "%" PRId64, values[i]));
        CHECK(bytes_integer((struct bytes){text, bytes_from_integer(text, values[i])}, &value));
        CHECK_EQ(value, values[i]);
    }
}

/* --------------------------------------------------------------------------------- replies */

static void replies_are_resp2(void)
{
    struct buffer out = {0};

    reply_text(&out, "+OK\r\n");
    reply_number(&out, ':', -7);
    reply_bulk(&out, (struct bytes){"a\0b", 3});
    reply_bulk(&out, (struct bytes){"", 0});
    reply_text(&out, "$-1\r\n");
    reply_number(&out, '*', 2);
    CHECK_EQ(out.used, 5 + 5 + 9 + 6 + 5 + 4);
    CHECK(memcmp(out.data, "+OK\r\n:-7\r\n$3\r\na\0b\r\n$0\r\n\r\n$-1\r\n*2\r\n", out.used) == 0);
    buffer_free(&out);
}

static void an_error_is_one_line_whatever_the_client_sent(void)
{
    struct buffer out = {0};

    reply_error(&out, "ERR unknown command '%s'", "a\r\n+OK\r\n");
    buffer_append(&out, (struct bytes){"", 1});
    CHECK_STR(out.data, "-ERR unknown command 'a  +OK  '\r\n");
    buffer_free(&out);
}

static void a_long_error_is_cut_and_stays_a_line(void)
{
    char name[STREAM_MAX];
    struct buffer out = {0};

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    reply_error(&out, "ERR %s", name);
    CHECK(out.used < 512);
    CHECK(!out.failed && memcmp(out.data + out.used - 2, "\r\n", 2) == 0);
    buffer_free(&out);
}

static void a_large_buffer_is_given_back(void)
{
    struct buffer out = {0};

    CHECK(buffer_reserve(&out, 100000) != NULL);
    buffer_clear(&out, 200000);
    CHECK(out.room >= 100000);
    buffer_clear(&out, 65536);
    CHECK_EQ(out.room, 0);
    CHECK(out.data == NULL);
}

CHECK_MAIN(CASE(an_array_gives_its_arguments), CASE(pipelined_requests_come_one_by_one),
           CASE(an_unfinished_request_is_no_request), CASE(an_empty_request_asks_for_nothing),
           CASE(arguments_hold_any_byte), CASE(an_inline_line_is_split_into_words),
           CASE(quotes_in_a_line_work_as_in_redis), CASE(unbalanced_quotes_break_the_stream),
           CASE(a_bad_count_breaks_the_stream), CASE(a_bad_length_breaks_the_stream),
           CASE(a_missing_line_end_breaks_the_stream), CASE(an_endless_line_breaks_the_stream),
           CASE(a_request_beyond_the_limit_breaks_the_stream),
           CASE(a_stream_may_have_a_smaller_limit), CASE(reading_goes_on_when_there_is_more_again),
           CASE(what_waits_behind_a_request_is_known_and_kept),
           CASE(memory_beyond_what_is_kept_is_given_back),
           CASE(a_large_count_allocates_nothing_in_advance),
           CASE(as_many_arguments_as_allowed_are_read), CASE(as_many_words_as_fit_a_line_are_read),
           CASE(random_streams_mean_the_same_however_cut), CASE(spoiled_requests_do_no_harm),
           CASE(words_are_the_same_in_any_case), CASE(integers_have_one_form),
           CASE(integers_reach_their_limits_and_no_further),
           CASE(integers_are_written_as_they_are_read), CASE(replies_are_resp2),
           CASE(an_error_is_one_line_whatever_the_client_sent),
           CASE(a_long_error_is_cut_and_stays_a_line), CASE(a_large_buffer_is_given_back))
