/* SPDX-License-Identifier: MIT */
/*
 * metrics.h - figures of the server and its runtime, as Prometheus text over HTTP.
 */
#ifndef KV_METRICS_H
#define KV_METRICS_H

/*
 * The job that answers GET /metrics and GET /healthz on the server's metrics listener, one
 * request at a time, until it is canceled. The argument is the struct server.
 */
void metrics_serve(void *server);

#endif
