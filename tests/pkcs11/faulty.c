/* A PKCS#11 library with faults: SoftHSM's, with some functions in between. What goes wrong
 * says the file FAULTY_CONTROL, read at each call; what was called is appended to the file
 * FAULTY_LOG. Needs no headers: CK_FUNCTION_LIST is a version and pointers in the order of
 * the specification (PKCS#11 2.40, 3.6). */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long rv;
typedef rv (*any)(void);
struct list { unsigned char version[2]; any function[68]; };

enum { INITIALIZE = 0, GET_FUNCTION_LIST = 3, GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6, OPEN_SESSION = 12, LOGIN = 18 };
enum { FIND_OBJECTS_INIT = 26, SIGN_INIT = 42, SIGN = 43 };
enum { FLAGS_OFFSET = 32 + 32 + 16 + 16 };
enum { FLAG_CLOCK = 0x40, TIME_OFFSET = FLAGS_OFFSET + 11 * sizeof(unsigned long) + 4, TIME = 16 };

static struct list ours;
static struct list *theirs;

static void say(const char *what) {
  const char *path = getenv("FAULTY_LOG");
  int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
  if (fd < 0) return;
  char line[64];
  int length = snprintf(line, sizeof line, "%s %d\n", what, getpid());
  if (write(fd, line, (size_t)length) < 0) _exit(99);
  close(fd);
}

/* Whether the control file orders `what`, with its number. "once WHAT" removes the file
 * first: only one process, one thread gets it. */
static int ordered(const char *what, unsigned long *number) {
  const char *path = getenv("FAULTY_CONTROL");
  char text[64] = {0};
  int fd = path ? open(path, O_RDONLY) : -1;
  if (fd < 0) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return 0;
  char *order = text;
  int once = strncmp(order, "once ", 5) == 0;
  if (once) order += 5;
  size_t name = strlen(what);
  if (strncmp(order, what, name) != 0) return 0;
  if (order[name] != '\0' && order[name] != '=') return 0;
  if (once && unlink(path) != 0) return 0;
  *number = order[name] == '=' ? strtoul(order + name + 1, NULL, 16) : 0;
  say(what);
  return 1;
}

/* A function that hangs before it does anything: `hang-open`. */
static void may_hang(const char *order) {
  unsigned long number;
  if (ordered(order, &number)) for (;;) pause();
}

static rv initialize(void *arguments) {
  may_hang("hang-initialize");
  return ((rv (*)(void *))theirs->function[INITIALIZE])(arguments);
}

/* A library whose server is gone may show no slot at all. */
static rv get_slot_list(unsigned char present, unsigned long *slots, unsigned long *count) {
  unsigned long number;
  rv answer = ((rv (*)(unsigned char, unsigned long *, unsigned long *))
                   theirs->function[GET_SLOT_LIST])(present, slots, count);
  if (answer == 0 && ordered("slotless", &number)) *count = 0;
  return answer;
}

static rv open_session(unsigned long slot, unsigned long flags, void *application, void *notify,
                       unsigned long *session) {
  may_hang("hang-open");
  return ((rv (*)(unsigned long, unsigned long, void *, void *, unsigned long *))
              theirs->function[OPEN_SESSION])(slot, flags, application, notify, session);
}

static rv find_objects_init(unsigned long session, void *template, unsigned long count) {
  may_hang("hang-find");
  return ((rv (*)(unsigned long, void *, unsigned long))theirs->function[FIND_OBJECTS_INIT])(
      session, template, count);
}

static rv sign_init(unsigned long session, void *mechanism, unsigned long key) {
  unsigned long code;
  if (ordered("count", &code)) say("C_SignInit");
  if (ordered("init", &code)) return code;
  return ((rv (*)(unsigned long, void *, unsigned long))theirs->function[SIGN_INIT])(
      session, mechanism, key);
}

static rv get_token_info(unsigned long slot, unsigned char *info) {
  rv answer = ((rv (*)(unsigned long, unsigned char *))theirs->function[GET_TOKEN_INFO])(slot, info);
  unsigned long more;
  if (ordered("info", &more)) return more;
  /* A clock whose time nobody can read. */
  if (answer == 0 && ordered("clock", &more)) {
    unsigned long flags;
    memcpy(&flags, info + FLAGS_OFFSET, sizeof flags);
    flags |= FLAG_CLOCK;
    memcpy(info + FLAGS_OFFSET, &flags, sizeof flags);
    memset(info + TIME_OFFSET, '?', TIME);
  }
  if (answer == 0 && ordered("flags", &more)) {
    unsigned long flags;
    memcpy(&flags, info + FLAGS_OFFSET, sizeof flags);
    flags |= more;
    memcpy(info + FLAGS_OFFSET, &flags, sizeof flags);
  }
  return answer;
}

static rv login(unsigned long session, unsigned long user, void *pin, unsigned long length) {
  unsigned long code;
  say("C_Login");
  may_hang("hang-login");
  if (ordered("login", &code)) return code;
  return ((rv (*)(unsigned long, unsigned long, void *, unsigned long))theirs->function[LOGIN])(
      session, user, pin, length);
}

static void wait_ms(unsigned long ms) {
  struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  nanosleep(&time, NULL);
}

/* A token that takes its time: `delay` for each call, whatever else is under way; `serial` for
 * one call after the other, as a TPM does. */
static void be_slow(void) {
  static pthread_mutex_t token = PTHREAD_MUTEX_INITIALIZER;
  unsigned long ms;
  if (ordered("delay", &ms)) wait_ms(ms);
  if (ordered("serial", &ms)) {
    pthread_mutex_lock(&token);
    wait_ms(ms);
    pthread_mutex_unlock(&token);
  }
}

static rv sign(unsigned long session, void *data, unsigned long length, unsigned char *signature,
               unsigned long *signature_length) {
  rv (*real)(unsigned long, void *, unsigned long, unsigned char *, unsigned long *) =
      (rv (*)(unsigned long, void *, unsigned long, unsigned char *, unsigned long *))
          theirs->function[SIGN];
  unsigned long code = 0;
  if (ordered("count", &code)) say("C_Sign");
  if (signature != NULL) {
    be_slow();
    /* A helper, as some vendors' libraries have: it holds all that is open here, and stays. */
    if (ordered("fork", &code) && fork() == 0) {
      say("helper");
      for (;;) pause();
    }
    if (ordered("hang", &code)) for (;;) pause();
    if (ordered("crash", &code)) *(volatile int *)16 = 1;
  }
  int fails = signature != NULL && ordered("sign", &code);
  unsigned long wanted = code;
  rv answer = real(session, data, length, signature, signature_length);
  if (signature != NULL && answer == 0 && ordered("flip", &code))
    signature[*signature_length - 1] ^= 1;
  /* The operation is over, as it is where the real one fails. */
  return fails ? wanted : answer;
}

rv C_GetFunctionList(struct list **list) {
  if (theirs == NULL) {
    void *library = dlopen(getenv("FAULTY_REAL"), RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return 5;
    rv (*get)(struct list **) = (rv (*)(struct list **))dlsym(library, "C_GetFunctionList");
    if (get == NULL || get(&theirs) != 0) return 5;
    ours = *theirs;
    ours.function[INITIALIZE] = (any)initialize;
    ours.function[GET_SLOT_LIST] = (any)get_slot_list;
    ours.function[OPEN_SESSION] = (any)open_session;
    ours.function[FIND_OBJECTS_INIT] = (any)find_objects_init;
    ours.function[SIGN_INIT] = (any)sign_init;
    ours.function[GET_FUNCTION_LIST] = (any)C_GetFunctionList;
    ours.function[GET_TOKEN_INFO] = (any)get_token_info;
    ours.function[LOGIN] = (any)login;
    ours.function[SIGN] = (any)sign;
  }
  *list = &ours;
  return 0;
}
