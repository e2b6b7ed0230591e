/* The loop's array began where the text before it ends, and is now larger and aligned further: the loop starts one element before it,
   which is again where the text ends. That the code meant that address before tells nothing. */
static long large[16] = {1};
static long cells[VERSION] = {5};
static signed char text[7] = "abcdef";
static signed char one = 1;

__attribute__((noipa)) long sum(long x) {
    volatile unsigned long first = 1, last = VERSION;
    unsigned long result = 0;
    for (unsigned long at = first, end = last; at <= end; at++)
        result = result * 31 + cells[at - 1] * at;
    return result + x;
}

long set(long x) {
    one++;
    text[x & 3]++;
    large[x & 15]++;
    cells[0] += x;
    return cells[0] + text[6];
}
