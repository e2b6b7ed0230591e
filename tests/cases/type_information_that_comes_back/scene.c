/* Version 2 is built without type information, 3 and 4 with: 3 has another layout than the items that there are. */
#include <stdlib.h>

struct item {
#if VERSION == 3
    long priority;
#endif
    long amount, weight;
};

static struct item *items;

long add(long amount) {
    if (!items)
        items = calloc(1, sizeof *items);
    items->amount += amount * VERSION;
    return items->amount;
}
