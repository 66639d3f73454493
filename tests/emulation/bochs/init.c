/* SPDX-License-Identifier: Apache-2.0
 *
 * The only process of the emulated machine: runs the lines of /commands one after the other
 * ("NAME=value ... /program argument ..."), says how each ended, and switches the machine off.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void execute(char* line) {
  char* words[32];
  int count = 0;
  for (char* word = strtok(line, " "); word != NULL && count < 31; word = strtok(NULL, " ")) {
    char* const equals = strchr(word, '=');
    if (count == 0 && equals != NULL) {
      *equals = '\0';
      setenv(word, equals + 1, 1);
    } else {
      words[count++] = word;
    }
  }
  words[count] = NULL;
  if (count > 0) execv(words[0], words);
  perror("exec");
  _exit(127);
}

int main(void) {
  const char* const folders[] = {"proc", "sysfs", "devtmpfs"};
  const char* const places[] = {"/proc", "/sys", "/dev"};
  for (int i = 0; i < 3; ++i) {
    mkdir(places[i], 0755);
    mount(folders[i], places[i], folders[i], 0, NULL);
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  FILE* const commands = fopen("/commands", "r");
  char line[1024];
  int failed = commands == NULL;
  while (commands != NULL && fgets(line, sizeof(line), commands) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    printf("[guest] %s\n", line);
    const pid_t child = fork();
    if (child == 0) execute(line);
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
      printf("[guest] ended by signal %d\n", WTERMSIG(status));
    } else {
      printf("[guest] exit code %d\n", WEXITSTATUS(status));
    }
    failed |= status != 0;
  }
  printf("[guest] %s\n", failed ? "FAILED" : "all passed");
  sync();
  sleep(1); /* the serial port's */
  reboot(RB_POWER_OFF);
  return 1;
}
