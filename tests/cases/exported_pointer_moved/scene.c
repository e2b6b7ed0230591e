/* The file initialises an exported pointer with the address of an exported array; the program moves it on. */
long places[4] = {1, 2, 3, 4};
long *cursor = places;

long advance(long x) {
    cursor += x;
    return *cursor * 10 + VERSION;
}

long first(long x) {
    return places[0] + x;
}

long store(long x) {
    return places[0] = x;
}
