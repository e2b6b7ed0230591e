/* An array with an index that begins with 1 is reached from its start by `-1(start, index)`. A new static ends where the array
   begins, and as it is one byte long, that also looks like an access to it. */
__attribute__((noipa)) long set(long index) {
    static signed char cells[4] = {1, 2, 3, 4};
    long sum = 0;
    if ((unsigned long)(index - 1) < 4)
        cells[index - 1] = 9;
    for (int i = 0; i < 4; i++)
        sum = sum * 10 + cells[i];
    return sum;
}

#if VERSION == 2
long other(long by) {
    static signed char cell = 5;
    return cell += by;
}
#endif
