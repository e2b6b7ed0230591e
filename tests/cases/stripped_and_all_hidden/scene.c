/* No variable has a symbol. */
static long hidden = 5;
static long hidden_zero[3];
long compute(long x) {
    hidden += x;
    hidden_zero[1] += 2 * x;
    return x * VERSION + hidden * 1000000 + hidden_zero[1] * 10000;
}
