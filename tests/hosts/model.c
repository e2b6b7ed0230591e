/* The program that generated libraries are reloaded under: it knows of each only `find`, and carries out whole batches of
 * calls per line, on its first thread or on its second.
 *
 *   open I PATH            loads library I                                        ok
 *   find I ID...           what its `find` answers, which is called anew          numbers in hexadecimal
 *   call T A X Y...        the function at address A with (X, Y), and so on, on thread T    their results
 *
 * It ends at the end of its input. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long u;

enum { LIBRARIES = 256, LINE = 1 << 20 };

static u (*finders[LIBRARIES])(u);
static char line[LINE], answer[LINE];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static int asked;

static void call_all(char *at) {
    char *out = answer;
    for (;;) {
        char *end;
        u address = strtoul(at, &end, 0);
        if (end == at)
            return;
        u x = strtoul(end, &at, 0), y = strtoul(at, &at, 0);
        out += snprintf(out, answer + LINE - out, "%#lx ", ((u(*)(u, u))address)(x, y));
    }
}

static void *second(void *unused) {
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!asked)
            pthread_cond_wait(&turn, &lock);
        call_all(line + 7);
        asked = 0;
        pthread_cond_broadcast(&turn);
    }
    return unused;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, second, NULL);
    printf("ready %d\n", getpid());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int library = 0, rest = 0;
        answer[0] = 0;
        sscanf(line, "%*s %d %n", &library, &rest);
        char *at = line + rest;
        if (!strncmp(line, "open", 4)) {
            void *opened = dlopen(at, RTLD_NOW | RTLD_LOCAL);
            if (opened)
                finders[library] = (u(*)(u))dlsym(opened, "find");
            snprintf(answer, LINE, "%s", opened ? "ok" : dlerror());
        } else if (!strncmp(line, "find", 4)) {
            char *out = answer, *end;
            for (u id = strtoul(at, &end, 0); end != at; id = strtoul(at, &end, 0)) {
                out += snprintf(out, answer + LINE - out, "%#lx ", finders[library](id));
                at = end;
            }
        } else if (library == 0) {
            call_all(at);
        } else {
            pthread_mutex_lock(&lock);
            asked = 1;
            pthread_cond_broadcast(&turn);
            while (asked)
                pthread_cond_wait(&turn, &lock);
            pthread_mutex_unlock(&lock);
        }
        printf(">%s\n", answer);
        fflush(stdout);
    }
    return 0;
}
