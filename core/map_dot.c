/* SPDX-License-Identifier: MIT */
/*
 * map_dot.c - the map of failure domains as a graph for Graphviz: dot -Tsvg.
 *
 * A box for each node, coloured by how it is; a line to each that is below it. Dashed red: who goes with whom.
 * Children that go all together stand in a dashed red frame. Dotted: whose threshold counts the panics.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "map_words.h"

struct graph_page {
    const struct map *map;
    void (*line)(void *arg, const char *text);
    void *arg;
    char text[4096];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void say(struct graph_page *p, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(p->text + p->used, sizeof p->text - p->used, format, args);
    va_end(args);
    if (n > 0)
        p->used = p->used + (size_t)n < sizeof p->text ? p->used + (size_t)n : sizeof p->text - 1;
}

static void end_line(struct graph_page *p)
{
    p->text[p->used] = '\0';
    p->used = 0;
    p->line(p->arg, p->text);
}

/* As HTML, which labels are. */
static void say_escaped(struct graph_page *p, const char *s)
{
    for (; *s; s++)
        switch (*s) {
        case '&': say(p, "&amp;"); break;
        case '<': say(p, "&lt;"); break;
        case '>': say(p, "&gt;"); break;
        case '"': say(p, "&quot;"); break;
        default:
            if ((unsigned char)*s >= ' ')
                say(p, "%c", *s);
        }
}

/* ------------------------------------------------------------------------------------- a box */

static const char *colour_of(const struct map_node *n)
{
    static const char *const colour[] = {
        [MAP_WELL] = "#e8f5e9", [MAP_HURT] = "#ffe0b2", [MAP_ENDS] = "#e0e0e0", [MAP_STUCK] = "#ffcdd2"};

    return colour[map_health(n)];
}

/* The policies, one to a line. */
static void say_policies(struct graph_page *p, char *text)
{
    for (char *rest = text, *end; rest; rest = end) {
        end = strstr(rest, "; ");
        if (end) {
            *end = '\0';
            end += 2;
        }
        say(p, "<i>");
        say_escaped(p, rest);
        say(p, "</i><br align=\"left\"/>");
    }
}

static void say_box(struct graph_page *p, uint32_t i)
{
    struct map_cell cell[MAP_COLUMNS];
    const struct map_node *n = &p->map->node[i];

    map_say(p->map, i, cell);
    say(p, "  n%u [fillcolor=\"%s\", label=<<b>", i, colour_of(n));
    say_escaped(p, n->name);
    say(p, "</b> &#160; %s, %s<br align=\"left\"/>", cell[MAP_IS].text, cell[MAP_STATE].text);
    for (int c = MAP_TAKES; c < MAP_POLICIES; c++) {
        if (!cell[c].text[0])
            continue;
        say(p, "%s: ", map_heading[c]);
        say_escaped(p, cell[c].text);
        say(p, "<br align=\"left\"/>");
    }
    if (cell[MAP_POLICIES].text[0])
        say_policies(p, cell[MAP_POLICIES].text);
    say(p, ">];");
    end_line(p);
}

/* ----------------------------------------------------------------------------- who goes with whom */

static bool is_group(const struct map_node *n)
{
    return n->strategy == COIR_ONE_FOR_ALL && n->first != MAP_NONE;
}

static void say_group(struct graph_page *p, uint32_t i)
{
    const struct map_node *node = p->map->node;

    say(p, "  subgraph cluster_%u { label=\"one fails, all are stopped\"; style=dashed; color=\"#c62828\"; "
        "fontcolor=\"#c62828\";", i);
    for (uint32_t c = node[i].first; c != MAP_NONE; c = node[c].next)
        if (node[c].kind == MAP_CHILD)
            say(p, " n%u;", c);
    say(p, " }");
    end_line(p);
}

static bool goes_along(const struct map_node *node, uint32_t i)
{
    const struct map_node *n = &node[i];

    return n->kind == MAP_CHILD && node[n->up].strategy == COIR_REST_FOR_ONE && n->restart != COIR_TEMPORARY &&
           n->next != MAP_NONE && node[n->next].kind == MAP_CHILD;
}

static void say_lines(struct graph_page *p, uint32_t i)
{
    const struct map_node *node = p->map->node, *n = &node[i];

    if (n->up != MAP_NONE) {
        say(p, "  n%u -> n%u;", n->up, i);
        end_line(p);
    }
    if (goes_along(node, i)) {
        say(p, "  n%u -> n%u [style=dashed, color=\"#c62828\", constraint=false];", i, n->next);
        end_line(p);
    }
    if (n->judge != MAP_NONE && n->judge != i && n->judge != n->up && n->kind == MAP_DOMAIN) {
        say(p, "  n%u -> n%u [style=dotted, constraint=false];", i, n->judge);
        end_line(p);
    }
}

static void say_graph(struct graph_page *p)
{
    say(p, "digraph failure_domains {");
    end_line(p);
    say(p, "  rankdir=LR; fontname=\"Helvetica\"; fontsize=10; nodesep=0.2;");
    end_line(p);
    say(p, "  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=10]; "
        "edge [color=\"#616161\", arrowsize=0.6];");
    end_line(p);
    for (uint32_t n = 0; n != MAP_NONE; n = map_after(p->map, n)) {
        say_box(p, n);
        say_lines(p, n);
        if (is_group(&p->map->node[n]))
            say_group(p, n);
    }
    say(p, "}");
    end_line(p);
}

int coir_map_dot(coir_runtime *runtime, void (*line)(void *arg, const char *text), void *arg)
{
    struct graph_page p = {.line = line, .arg = arg};
    struct map m __attribute__((cleanup(map_free))) = {0}; /* a line may panic */
    int status;

    status = line ? map_take(runtime, &m) : COIR_EINVAL;
    if (status != COIR_OK)
        return status;
    p.map = &m;
    say_graph(&p);
    return COIR_OK;
}
