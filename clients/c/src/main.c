/* Runs the scenarios one after the other, each in a process group of its own, and prints one line for each.
 *
 * Arguments are substrings: only scenarios whose name contains one of them are run. */
#define _GNU_SOURCE
#include "harness.h"

#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define SCENARIO_SECONDS 90

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *at) {
    (void)stat, (void)kind, (void)at;
    return remove(path);
}

static bool run(const struct scenario *scenario) {
    char folder[] = "/tmp/zorilla-c-XXXXXX";
    if (mkdtemp(folder) == NULL) {
        perror("mkdtemp");
        exit(2);
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        setpgid(0, 0);
        alarm(SCENARIO_SECONDS);
        zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
        /* The library logs every lost connection, and losing connections is what many scenarios are about. */
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(2);
        server_prepare(folder, scenario->flags);
        server_start();
        scenario->run();
        fflush(stdout);
        _exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0) {
    }
    /* The server and what the scenario may have left behind. */
    kill(-pid, SIGKILL);
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (WIFSIGNALED(status)) {
        bool late = WTERMSIG(status) == SIGALRM;
        printf(late ? "    not done within %d s\n" : "    ended by signal %d\n",
               late ? SCENARIO_SECONDS : WTERMSIG(status));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool wanted(const char *name, int count, char **words) {
    for (int i = 0; i < count; i++)
        if (strstr(name, words[i]) != NULL) return true;
    return count == 0;
}

int main(int argc, char **argv) {
    const struct scenario *tables[] = {crud_scenarios, multi_scenarios, acl_scenarios, watch_scenarios,
                                       session_scenarios};
    int passed = 0, failed = 0;
    setlinebuf(stdout);
    if (getenv("ZORILLA") == NULL) {
        fprintf(stderr, "ZORILLA names no server\n");
        return 2;
    }
    for (size_t table = 0; table < sizeof tables / sizeof *tables; table++) {
        for (const struct scenario *scenario = tables[table]; scenario->name != NULL; scenario++) {
            if (!wanted(scenario->name, argc - 1, argv + 1)) continue;
            double began = seconds();
            bool good = run(scenario);
            passed += good;
            failed += !good;
            printf("%-6s %6.2f s  %s\n", good ? "ok" : "FAILED", seconds() - began, scenario->name);
        }
    }
    if (passed + failed == 0) printf("no scenario matches\n");
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed != 0 ? 0 : 1;
}
