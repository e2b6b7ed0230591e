/* The program that most cases reload under: it carries out one command per line of its standard input and answers each with
 * one line. It knows nothing of the libraries but the shape `long f(long)`, so that every case can share it.
 *
 *   open PATH / close    dlopen / dlclose of the one opened last      ok
 *   churn PATH           dlopen and dlclose without end, on a thread  ok
 *   call F X             F(X), looked up by name                      the result
 *   text F X             F(X) that returns a string                   the string
 *   hold F / held X      keeps a pointer to F / calls it              ok / the result
 *   table / entry I X    keeps `callbacks()` / calls its Ith entry    ok / the result
 *   object / method I X  keeps `object_new()` / calls its Ith virtual method through its vtable
 *   read V / write V X   a variable of type long                      its value / ok
 *   address V            where a name lies                            in hexadecimal
 *   thread F / seen      a thread that calls F(1) without end / its last result
 *   on T COMMAND...      carries out COMMAND on a thread of its own named T, made when first asked for
 *   end T                ends that thread (its thread-local destructors run)
 *   direct X             compute(X) through the PLT; only where the library is linked at start-up
 *
 * It ends at the end of its input. An answer that begins with "error" is one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef long (*function)(long);
typedef const char *(*text_function)(long);

enum { LINE = 4096, WORKERS = 16 };

static function held;
static function *table;
static void **object;
static _Atomic long seen;
static void *libraries[16];
static int library_count;

struct worker {
    char name[32];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t turn;
    char command[LINE];
    char answer[LINE];
    int state; /* 0 idle, 1 asked, 2 answered, 3 to end */
};
static struct worker workers[WORKERS];

static void *find(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    for (int i = 0; !found && i < library_count; i++)
        found = dlsym(libraries[i], name);
    return found;
}

static void *churn(void *path) {
    for (;;) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library)
            dlclose(library);
        usleep(100);
    }
    return NULL;
}

static void *call_without_end(void *f) {
    for (;;) {
        atomic_store(&seen, ((function)f)(1));
        usleep(1000);
    }
    return NULL;
}

static void carry_out(char *line, char *answer);

static void *work(void *argument) {
    struct worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        while (worker->state != 1 && worker->state != 3)
            pthread_cond_wait(&worker->turn, &worker->lock);
        if (worker->state == 3)
            break;
        carry_out(worker->command, worker->answer);
        worker->state = 2;
        pthread_cond_broadcast(&worker->turn);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

static struct worker *worker_named(const char *name) {
    for (int i = 0; i < WORKERS; i++) {
        struct worker *worker = &workers[i];
        if (!strcmp(worker->name, name))
            return worker;
        if (!worker->name[0]) {
            snprintf(worker->name, sizeof worker->name, "%s", name);
            pthread_mutex_init(&worker->lock, NULL);
            pthread_cond_init(&worker->turn, NULL);
            pthread_create(&worker->thread, NULL, work, worker);
            return worker;
        }
    }
    abort();
}

static void ask(const char *name, const char *command, char *answer) {
    struct worker *worker = worker_named(name);
    pthread_mutex_lock(&worker->lock);
    snprintf(worker->command, LINE, "%s", command);
    worker->state = 1;
    pthread_cond_broadcast(&worker->turn);
    while (worker->state != 2)
        pthread_cond_wait(&worker->turn, &worker->lock);
    worker->state = 0;
    memcpy(answer, worker->answer, LINE);
    pthread_mutex_unlock(&worker->lock);
}

static void end(const char *name) {
    struct worker *worker = worker_named(name);
    pthread_mutex_lock(&worker->lock);
    worker->state = 3;
    pthread_cond_broadcast(&worker->turn);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    snprintf(worker->name, sizeof worker->name, "(ended)");
}

#ifdef LINKED
extern long compute(long);
#endif

static void carry_out(char *line, char *answer) {
    char verb[32] = "", name[3072] = "";
    long x = 0;
    int rest = 0;
    sscanf(line, "%31s %3071s %n", verb, name, &rest);
    if (rest)
        x = strtol(line + rest, NULL, 0);
    long first = strtol(name, NULL, 0);

#define IS(word) (!strcmp(verb, word))
    if (IS("open")) {
        void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (library)
            libraries[library_count++] = library;
        snprintf(answer, LINE, library ? "ok" : "error %s", library ? "" : dlerror());
    } else if (IS("churn")) {
        pthread_t thread;
        pthread_create(&thread, NULL, churn, strdup(name));
        pthread_detach(thread);
        snprintf(answer, LINE, "ok");
    } else if (IS("close")) {
        int error = library_count ? dlclose(libraries[--library_count]) : -1;
        snprintf(answer, LINE, error ? "error" : "ok");
    } else if (IS("held")) {
        snprintf(answer, LINE, "%ld", held(first));
    } else if (IS("entry")) {
        snprintf(answer, LINE, "%ld", table[first](x));
    } else if (IS("method")) {
        /* Itanium C++ ABI: the object's first word points at its vtable's first slot. */
        long (**slots)(void *, long) = *(void **)object;
        snprintf(answer, LINE, "%ld", slots[first](object, x));
    } else if (IS("seen")) {
        snprintf(answer, LINE, "%ld", atomic_load(&seen));
    } else if (IS("end")) {
        end(name);
        snprintf(answer, LINE, "ok");
    } else if (IS("on")) {
        ask(name, line + rest, answer);
    } else if (IS("table") || IS("object")) {
        void *(*make)(void) = find(IS("table") ? "callbacks" : "object_new");
        if (make)
            *(IS("table") ? (void **)&table : (void **)&object) = make();
        snprintf(answer, LINE, make ? "ok" : "error no maker");
#ifdef LINKED
    } else if (IS("direct")) {
        snprintf(answer, LINE, "%ld", compute(first));
#endif
    } else {
        void *found = find(name);
        if (!found)
            snprintf(answer, LINE, "error no `%s`", name);
        else if (IS("call"))
            snprintf(answer, LINE, "%ld", ((function)found)(x));
        else if (IS("text"))
            snprintf(answer, LINE, "%s", ((text_function)found)(x));
        else if (IS("hold"))
            held = found, snprintf(answer, LINE, "ok");
        else if (IS("read"))
            snprintf(answer, LINE, "%ld", *(long *)found);
        else if (IS("write"))
            *(long *)found = x, snprintf(answer, LINE, "ok");
        else if (IS("address"))
            snprintf(answer, LINE, "%#lx", (unsigned long)(uintptr_t)found);
        else if (IS("thread")) {
            pthread_t thread;
            pthread_create(&thread, NULL, call_without_end, found);
            pthread_detach(thread);
            snprintf(answer, LINE, "ok");
        } else
            snprintf(answer, LINE, "error no command `%s`", verb);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d\n", getpid());
    char line[LINE], answer[LINE];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        snprintf(answer, LINE, "error");
        carry_out(line, answer);
        /* Libraries may print lines of their own; an answer is told apart by its first character. */
        printf(">%s\n", answer);
    }
    return 0;
}
