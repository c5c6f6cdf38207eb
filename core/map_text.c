/* SPDX-License-Identifier: MIT */
/*
 * map_text.c - the map of failure domains as lines for people: a tree, and what each node says in columns.
 *
 * Columns are as wide as they must be, and left out if no node has anything to say there.
 */
#include <string.h>

#include "map_words.h"

#define INDENT 3     /* columns for each level */
#define DEPTH_MAX 40 /* levels that are drawn; what lies deeper is drawn there */

struct page {
    const struct map *map;
    size_t tree, width[MAP_COLUMNS]; /* 0: the column is left out */
    void (*line)(void *arg, const char *text);
    void *arg;
    char text[1024];
    size_t used;
};

static void say(struct page *p, const char *s)
{
    for (; *s && p->used < sizeof p->text - 1; s++)
        p->text[p->used++] = printable(*s);
}

static void pad(struct page *p, size_t shown, size_t width)
{
    for (; shown < width; shown++)
        say(p, " ");
}

static void end_line(struct page *p)
{
    while (p->used && p->text[p->used - 1] == ' ')
        p->used--;
    p->text[p->used] = '\0';
    p->used = 0;
    p->line(p->arg, p->text);
}

/* ------------------------------------------------------------------------------------ the tree */

static unsigned depth_of(const struct map_node *n)
{
    return n->depth < DEPTH_MAX ? n->depth : DEPTH_MAX;
}

static size_t tree_width(const struct map_node *n)
{
    return INDENT * depth_of(n) + strlen(n->name);
}

/* Branches are drawn from the runtime down, though nodes know the way up. */
static void say_tree(struct page *p, const struct map_node *n)
{
    const struct map_node *node = p->map->node, *above[DEPTH_MAX + 1];
    unsigned depth = depth_of(n);

    above[depth] = n;
    for (unsigned i = depth; i > 0; i--)
        above[i - 1] = &node[above[i]->up];
    for (unsigned i = 1; i < depth; i++)
        say(p, above[i]->next == MAP_NONE ? "   " : "│  ");
    if (depth)
        say(p, n->next == MAP_NONE ? "└─ " : "├─ ");
    say(p, n->name);
    pad(p, tree_width(n), p->tree);
}

/* ------------------------------------------------------------------------------------- columns */

static void widen(size_t *width, size_t to)
{
    *width = *width > to ? *width : to;
}

static void measure(struct page *p)
{
    struct map_cell cell[MAP_COLUMNS];

    widen(&p->tree, sizeof "what" - 1);
    for (uint32_t n = 0; n != MAP_NONE; n = map_after(p->map, n)) {
        map_say(p->map, n, cell);
        widen(&p->tree, tree_width(&p->map->node[n]));
        for (int c = 0; c < MAP_COLUMNS; c++)
            if (cell[c].text[0])
                widen(&p->width[c], strlen(cell[c].text));
    }
    for (int c = 0; c < MAP_COLUMNS; c++)
        if (p->width[c])
            widen(&p->width[c], strlen(map_heading[c]));
}

/* Numbers to the right. */
static void say_cell(struct page *p, int column, const char *text)
{
    bool right = column >= MAP_JOBS && column < MAP_POLICIES;
    size_t length = strlen(text);

    if (!p->width[column])
        return;
    say(p, "  ");
    if (right)
        pad(p, length, p->width[column]);
    say(p, text);
    if (!right)
        pad(p, length, p->width[column]);
}

static void say_headings(struct page *p)
{
    say(p, "what");
    pad(p, sizeof "what" - 1, p->tree);
    for (int c = 0; c < MAP_COLUMNS; c++)
        say_cell(p, c, map_heading[c]);
    end_line(p);
}

static void say_node(struct page *p, uint32_t n)
{
    struct map_cell cell[MAP_COLUMNS];

    map_say(p->map, n, cell);
    say_tree(p, &p->map->node[n]);
    for (int c = 0; c < MAP_COLUMNS; c++)
        say_cell(p, c, cell[c].text[0] || c == MAP_POLICIES ? cell[c].text : "-");
    end_line(p);
}

int coir_map_print(coir_runtime *runtime, void (*line)(void *arg, const char *text), void *arg)
{
    struct page p = {.line = line, .arg = arg};
    struct map m __attribute__((cleanup(map_free))) = {0}; /* a line may panic */
    int status;

    status = line ? map_take(runtime, &m) : COIR_EINVAL;
    if (status != COIR_OK)
        return status;
    p.map = &m;
    measure(&p);
    say_headings(&p);
    for (uint32_t n = 0; n != MAP_NONE; n = map_after(&m, n))
        say_node(&p, n);
    return COIR_OK;
}
