/* Both loops go down with one pointer, and the second ends as far below the array as that is long. The linker has the GOT there, with
   a symbol of its own; where the array ends, and that is all that the code names of it, something else starts. */
static short behind = 3;
long cells[14] __attribute__((visibility("hidden"))) = {5, 6};
#if VERSION >= 2
static long more[4] = {9};
#endif

__attribute__((noipa)) long both(long factor) {
    long result = 0;
    for (long *at = cells + 14; at != cells;)
        result = result * 3 + *--at;
    for (int at = 14; at > 0; at--)
        result = result * factor + cells[at - 1];
    return result;
}

long set(long value) { return cells[1] = value; }

long grow(long by) {
    behind += by;
#if VERSION >= 2
    more[by & 3] += by;
#endif
    return behind;
}
