/* Three functions that always belong to one version. */
static long calls;

long alpha(void) {
    calls++;
    return VERSION;
}

long beta(void) {
    calls++;
    return VERSION * 10;
}

long gamma_(void) {
    calls++;
    return VERSION * 100;
}

/* All three at once: a mixture shows in the digits. */
long together(long x) {
    return alpha() + beta() + gamma_() + x;
}

long calls_so_far(long x) {
    return calls + x;
}
