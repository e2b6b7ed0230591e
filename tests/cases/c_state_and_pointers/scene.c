/* State in every place where C keeps it; three versions that differ in what the functions do with it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

long exported_total = 100;
__attribute__((visibility("hidden"))) long hidden_total = 10;
static long static_total;
static __thread long thread_total = 1000;

struct entry {
    long value;
    struct entry *next;
};
static struct entry *entries;
static long entry_count;
static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static long destroyed;

long compute(long x) {
    return x + VERSION * 100;
}

long count(long x) {
    static long calls;
    calls += x;
    exported_total += VERSION;
    hidden_total += VERSION;
    static_total += VERSION;
    return calls;
}

long totals(long x) {
    return x + exported_total * 1000000 + hidden_total * 1000 + static_total;
}

long per_thread(long x) {
    thread_total += x * VERSION;
    return thread_total;
}

/* A collection on the heap, guarded by a mutex. */
long push(long x) {
    struct entry *entry = malloc(sizeof *entry);
    pthread_mutex_lock(&entries_lock);
    *entry = (struct entry){x * VERSION, entries};
    entries = entry;
    long count = ++entry_count;
    pthread_mutex_unlock(&entries_lock);
    return count;
}

long sum(long x) {
    pthread_mutex_lock(&entries_lock);
    for (struct entry *entry = entries; entry; entry = entry->next)
        x += entry->value;
    pthread_mutex_unlock(&entries_lock);
    return x;
}

static void destroy(void *value) {
    destroyed += (long)value * VERSION;
}

static void make_key(void) {
    pthread_key_create(&key, destroy);
}

/* The destructor that runs at the thread's end is a pointer kept by libc. */
long leave_at_end(long x) {
    pthread_once(&key_once, make_key);
    pthread_setspecific(key, (void *)x);
    return x;
}

long destroyed_total(long x) {
    return destroyed + x;
}

static long first(long x) {
    return compute(x) + 1;
}

static long second(long x) {
    return -x * VERSION;
}

static long (*const table[])(long) = {first, second};

const void *callbacks(void) {
    return table;
}

const char *speak(long x) {
    static char text[64];
    snprintf(text, sizeof text, "version %d says %ld", VERSION, x);
    printf("version %d prints %ld\n", VERSION, x);
    return text;
}
