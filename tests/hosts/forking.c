/* A server with worker processes: it loads a library and forks children that call it again and again.
 *
 *   open PATH    dlopen                                     ok
 *   fork N       N children                                 their process ids
 *   leave N      N children that outlive it for a while     their process ids
 *   seen         what each child's last call gave           the results
 *   own          the same call in this process              the result
 *   exec PATH    becomes another program
 *
 * Other children end with it, and it at the end of its input. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MOST = 64 };

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    volatile long *results = mmap(NULL, MOST * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long (*together)(long) = NULL;
    int children = 0;
    printf("ready %d\n", getpid());
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "open ", 5)) {
            void *library = dlopen(line + 5, RTLD_NOW | RTLD_LOCAL);
            together = library ? (long (*)(long))dlsym(library, "together") : NULL;
            puts(together ? ">ok" : ">error");
        } else if (!strncmp(line, "fork ", 5) || !strncmp(line, "leave ", 6)) {
            printf(">");
            fflush(stdout);
            for (int left = atoi(strchr(line, ' ')); left > 0 && children < MOST; left--, children++) {
                pid_t child = fork();
                if (child == 0) {
                    if (line[0] == 'f')
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                    else
                        alarm(120);
                    for (;;) {
                        results[children] = together(0);
                        usleep(2000);
                    }
                }
                printf("%d ", child);
            }
            puts("");
        } else if (!strcmp(line, "seen")) {
            printf(">");
            for (int i = 0; i < children; i++)
                printf("%ld ", results[i]);
            puts("");
        } else if (!strcmp(line, "own")) {
            printf(">%ld\n", together(0));
        } else if (!strncmp(line, "exec ", 5)) {
            execl(line + 5, line + 5, NULL);
        }
    }
    return 0;
}
