/* A program that is bad in one way and else the one behind it: what update.sh has to find out. Built with -DHOW="...". */
#ifndef BEHIND
#define BEHIND "/opt/headwater/behind"
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *behind = BEHIND;

static int is(const char *how) { return strcmp(HOW, how) == 0; }

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "run") == 0) {
        if (is("crash")) {
            fprintf(stderr, "the last words of a program that crashes\n");
            abort();
        }
        if (is("exit")) exit(2);
        if (is("hang")) for (;;) pause();
        /* An alarm outlives exec. */
        if (is("late")) alarm(3);
    }
    if (strcmp(verb, "check") == 0 && is("config")) {
        fprintf(stderr, "error: this config is of another age\n");
        return 2;
    }
    if (strcmp(verb, "status") == 0 && argc > 2 && is("alarm") && strcmp(argv[2], "--check") == 0) {
        printf("HEADWATER CRITICAL - rule shape has stopped topic log\n");
        return 2;
    }
    if (strcmp(verb, "status") == 0 && argc > 4 && is("loss") && strcmp(argv[2], "--json") == 0) {
        char command[400];
        snprintf(command, sizeof command, "%s status --json -c %s | sed 's/\"lost_unsynced\": 0/\"lost_unsynced\": 7/'", behind, argv[4]);
        return system(command) ? 1 : 0;
    }
    execv(behind, argv);
    return 127;
}
