/* Version 2 adds a function and makes another larger; version 3 removes one; version 4 brings it back. */
#include <string.h>

static long total;

#if VERSION != 3
long sometimes(long x) {
    return x + 1000 * VERSION;
}
#endif

#if VERSION >= 2
__attribute__((noinline)) static long added(long x) {
    return x * 10;
}

long added_export(long x) {
    return added(x) + VERSION;
}
#endif

long grows(long x) {
#if VERSION >= 2
    char text[64];
    for (int i = 0; i < 40; i++) {
        text[i] = 'a' + (x + i) % 26;
        text[i + 1] = 0;
        total += strlen(text) & 1;
    }
    x = added(x) + text[3] * 0;
#endif
#if VERSION >= 3
    switch (x % 5) {
    case 0: x += 1; break;
    case 1: x += 20; break;
    case 2: x += 300; break;
    case 3: x += 4000; break;
    default: x += 50000; break;
    }
#endif
    total++;
    return x;
}

long total_so_far(long x) {
    return total + x;
}
