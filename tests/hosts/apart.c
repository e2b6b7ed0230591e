/* A program that keeps others out in the way that its argument says. It answers every line with `still here`.
 *
 *   seccomp     a filter of its own, which lets everything through
 *   undumpable  nobody of its own user may look into it
 *   plain */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **arguments) {
    const char *way = count > 1 ? arguments[1] : "plain";
    if (!strcmp(way, "seccomp")) {
        struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {1, all};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    } else if (!strcmp(way, "undumpable")) {
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d\n", getpid());
    char line[256];
    while (fgets(line, sizeof line, stdin))
        puts(">still here");
    return 0;
}
