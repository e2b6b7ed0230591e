extern long twice(long x);

long through_neighbour(long x) {
    return twice(x);
}
