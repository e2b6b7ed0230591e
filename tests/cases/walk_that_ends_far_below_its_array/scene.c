/* Two loops over one array, which gcc -Os has share a register: the second, downwards, ends as far below the array as that is long,
   outside of all state. It must not be left behind when the array stays where it was and the file is laid out anew. */
#if VERSION >= 2
static long before[4] = {1, 2, 3, 4};
#endif
long cells[20] __attribute__((visibility("hidden"))) = {5, 6};
#if VERSION >= 2
static long more[4] = {9};
#endif

__attribute__((noipa)) long both(long factor) {
    long result = 0;
    for (int at = 0; at < 20; at++)
        result = result * 3 + cells[at];
    for (int at = 20; at > 0; at--)
        result = result * factor + cells[at - 1];
#if VERSION >= 2
    result += 1000;
#endif
    return result;
}

long set(long value) { return cells[2] = value; }

long grow(long by) {
#if VERSION >= 2
    return before[by & 3] += more[by & 3] += by;
#else
    return by;
#endif
}
