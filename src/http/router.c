/* router.c - which family a request belongs to.
 *
 * The path is routed and decoded as it came: h2o's normalised path would take `//`, `.` and `..`
 * out of keys.
 */

#include "http_internal.h"

static enum http_method method_of(h2o_iovec_t method)
{
    static const char *const names[] = {
        [METHOD_GET] = "GET",   [METHOD_HEAD] = "HEAD",     [METHOD_PUT] = "PUT",
        [METHOD_POST] = "POST", [METHOD_DELETE] = "DELETE",
    };
    for (size_t i = 0; i < TL_COUNT_OF(names); i++) {
        if (text_is(bytes_make(method.base, method.len), names[i])) return (enum http_method)i;
    }
    return METHOD_OTHER;
}

/* GET http://host:port/path is as good a request line as GET /path (RFC 9112 3.2.2). */
static struct bytes origin_form(h2o_iovec_t target)
{
    struct bytes path = bytes_make(target.base, target.len);
    if (path.count == 0 || path.data[0] == '/') return path;
    size_t scheme_end = h2o_strstr(target.base, target.len, H2O_STRLIT("://"));
    if (scheme_end == SIZE_MAX) return path;
    size_t begin = scheme_end + 3;
    while (begin < path.count && path.data[begin] != '/') begin++;
    return bytes_make(path.data + begin, path.count - begin);
}

static void split_target(struct exchange *exchange, struct bytes target)
{
    const uint8_t *mark = target.count > 0 ? memchr(target.data, '?', target.count) : NULL;
    exchange->path = target;
    if (mark == NULL) return;
    exchange->path.count = (size_t)(mark - target.data);
    exchange->query = bytes_make(mark + 1, target.count - exchange->path.count - 1);
}

static void root_serve(struct exchange *exchange)
{
    if (!exchange_take_get(exchange, NULL, 0)) return;
    respond_text(exchange, 200, "trilith: see /v1/status, /v1/cluster, /metrics, /readyz\n");
}

struct route {
    const char *path;
    bool is_prefix; /* a key follows */
    enum http_family family;
    void (*serve)(struct exchange *exchange);
};

static const struct route routes[] = {
    {"/v1/kv", false, FAMILY_SCAN, scan_serve},
    {"/v1/kv/", true, FAMILY_KV, kv_serve},
    {"/v1/txn", false, FAMILY_TXN, txn_serve},
    {"/keys/", true, FAMILY_KEYS, keys_serve},
    {"/v1/status", false, FAMILY_STATUS, status_serve},
    {"/v1/cluster", false, FAMILY_CLUSTER, cluster_serve},
    {"/v1/cluster/leader", false, FAMILY_CLUSTER, leader_serve},
    {"/v1/cluster/members", false, FAMILY_CLUSTER, members_serve},
    {"/v1/cluster/members/", true, FAMILY_CLUSTER, member_serve},
    {"/v1/log", false, FAMILY_LOG, log_serve},
    {"/v1/log/verify", false, FAMILY_LOG, log_verify_serve},
    {"/admin/status", false, FAMILY_STATUS, admin_serve},
    {"/metrics", false, FAMILY_METRICS, metrics_serve},
    {"/livez", false, FAMILY_HEALTH, livez_serve},
    {"/readyz", false, FAMILY_HEALTH, readyz_serve},
    {"/", false, FAMILY_OTHER, root_serve},
};

static const struct route *route_of(struct bytes path)
{
    for (size_t i = 0; i < TL_COUNT_OF(routes); i++) {
        size_t count = strlen(routes[i].path);
        bool is_right_length = routes[i].is_prefix ? path.count >= count : path.count == count;
        if (is_right_length && memcmp(path.data, routes[i].path, count) == 0) return &routes[i];
    }
    return NULL;
}

int router_on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct http_server *server = TL_CONTAINER_OF(handler, struct router_handler, super)->server;
    TL_ASSERT(server->magic == HTTP_SERVER_MAGIC);
    struct exchange *exchange = exchange_create(server, req);
    exchange->method = method_of(req->method);
    split_target(exchange, origin_form(req->path));
    const struct route *route = route_of(exchange->path);
    exchange->family = route != NULL ? route->family : FAMILY_OTHER;
    if (route != NULL) {
        route->serve(exchange);
    } else {
        respond_refusal(exchange, REFUSAL_ROUTE);
    }
    return 0;
}
