/* Another module, never reloaded, that calls the scene through its own PLT and reads its exported data. */
extern long compute(long);
extern long exported_total;

long through_neighbour(long x) {
    return compute(x) * 2;
}

long seen_by_neighbour(long x) {
    return exported_total + x;
}
