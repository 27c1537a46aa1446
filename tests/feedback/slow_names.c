/* A name server that is away: LD_PRELOAD this, and every name under `.invalid` fails after a second, as late as a real
 * resolver gives up at the earliest. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    const char *end = name ? strstr(name, ".invalid") : NULL;
    if (end && !strcmp(end, ".invalid")) {
        sleep(1);
        return EAI_AGAIN;
    }
    return ((resolver *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
