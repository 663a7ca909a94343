bin_PROGRAMS += trilith
trilith_SOURCES = src/trilith/main.c src/trilith/inspect.c src/trilith/leader.c src/trilith/log.c src/trilith/log_show.c \
    src/trilith/members.c src/trilith/output.c src/trilith/scan.c src/trilith/status.c \
    src/trilith/txn.c src/trilith/verbs.c src/trilith/cli.h
trilith_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) -DPACKAGE_VERSION_TEXT='"$(PACKAGE_VERSION)"'
trilith_LDADD = libtrilith.a libstore.a libwire.a libbase.a $(CURL_LIBS) $(JANSSON_LIBS) \
    $(LMDB_LIBS) $(XXHASH_LIBS)
dist_man_MANS += docs/trilith.1
dist_bashcompletion_DATA += scripts/completions/trilith
