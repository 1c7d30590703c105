/*
 * /init of the guest that measures its disk: it runs fio on the jobs of /jobs, prints fio's report between
 * marks, and resets.
 */
#include "guest.h"

int main(void) {
    char *const fio[] = {"/usr/bin/fio", "--output-format=terse", "--terse-version=3", "/jobs", NULL};
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    printf("@@report@@\n");
    fflush(stdout);
    run(fio);
    printf("@@end@@\n");
    end();
}
