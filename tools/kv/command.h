/* SPDX-License-Identifier: MIT */
/*
 * command.h - what a request asks for.
 */
#ifndef KV_COMMAND_H
#define KV_COMMAND_H

#include "server.h"

/*
 * Runs a request of at least one argument and appends its reply to client->out. May suspend, and
 * may panic: call it below a boundary.
 */
void command_run(struct client *client, const struct request *request);

#endif
