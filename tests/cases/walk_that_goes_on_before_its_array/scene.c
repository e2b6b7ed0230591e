/* gcc counts both loops with one pointer. The second ends as far before the array as that is long, which is where a neighbour
 * starts, or another. */
static int before[4] = {9, 9, 9, 9};
#if VERSION >= 2
static int added_before[4] = {8, 8, 8, 8};
#endif
static int array[4] = {1, 2, 3, 4};
#if VERSION >= 3
static int added_behind[4] = {7, 7, 7, 7};
#endif
static int behind[4] = {6, 6, 6, 6};

long walk(long x) {
    long sum = x;
    for (int *at = array + 4; at != array;)
        sum = sum * 10 + *--at;
    for (int i = 4; i > 0; i--)
        sum = sum * 10 + array[i - 1];
    return sum;
}

long set(long x) { return array[x & 3] = x; }

long neighbours(long x) {
    x += before[x & 3] + behind[x & 3];
#if VERSION >= 2
    x += added_before[x & 3];
#endif
#if VERSION >= 3
    x += added_behind[x & 3];
#endif
    return x;
}
