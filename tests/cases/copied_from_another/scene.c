/* Variables of libc, of which a program has copies. */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>

long compute(long x) {
    optind += x;
#if VERSION >= 2
    return optind * 10 + VERSION;
#else
    return optind;
#endif
}

#if VERSION >= 3
/* Not used before: there is no copy yet. */
long fresh(long x) { return optopt + x; }
#endif
