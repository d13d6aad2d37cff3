# What the package holds beside the programs, and where. include() it after add_subdirectory(daemons).
foreach(program vtpmctl vtpmmgrd vtpmd vtpm-swtpm vtpm-front)
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
endforeach()
install(TARGETS vtpm-engine vtpm-swtpm-engine RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/xen-vtpm)

# Under swtpm's names, in a directory of their own, for those who start that. Links, since AppArmor lets
# libvirt start what is in sbin.
install(PROGRAMS config/vtpm-swtpm-setup DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(CODE "
    set(directory \$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/lib/xen-vtpm/swtpm)
    file(MAKE_DIRECTORY \${directory})
    file(CREATE_LINK ../../../sbin/vtpm-swtpm \${directory}/swtpm SYMBOLIC)
    file(CREATE_LINK ../../../sbin/vtpm-swtpm-setup \${directory}/swtpm_setup SYMBOLIC)")

# systemd and udev look under /lib on Debian 12 and under /usr/lib later; their .pc files know.
pkg_get_variable(VTPM_UNIT_DIR systemd systemdsystemunitdir)
pkg_get_variable(VTPM_SYSUSERS_DIR systemd sysusersdir)
pkg_get_variable(VTPM_TMPFILES_DIR systemd tmpfilesdir)
pkg_get_variable(VTPM_UDEV_DIR udev udevdir)

install(FILES
    systemd/vtpmmgrd.socket
    systemd/vtpmmgrd.service
    systemd/vtpmd@.service
    systemd/vtpm-swtpm@.service
    systemd/vtpm-coldplug.service
    DESTINATION ${VTPM_UNIT_DIR})
install(FILES systemd/xen-vtpm.sysusers RENAME xen-vtpm.conf DESTINATION ${VTPM_SYSUSERS_DIR})
install(FILES systemd/xen-vtpm.tmpfiles RENAME xen-vtpm.conf DESTINATION ${VTPM_TMPFILES_DIR})
install(FILES config/70-xen-vtpm.rules DESTINATION ${VTPM_UDEV_DIR}/rules.d)

# Of guests: the package xen-vtpm-guest.
install(FILES systemd/vtpm-front@.service systemd/vtpm-front-initrd@.service DESTINATION ${VTPM_UNIT_DIR})
install(FILES config/guest/70-xen-vtpm-guest.rules DESTINATION ${VTPM_UDEV_DIR}/rules.d)
# Where udev is, there is kmod's directory.
install(FILES config/guest/xen-vtpm-guest.conf DESTINATION ${VTPM_UDEV_DIR}/../modprobe.d)
install(PROGRAMS config/guest/initramfs-hook RENAME vtpm-front
    DESTINATION ${CMAKE_INSTALL_DATADIR}/initramfs-tools/hooks)
install(PROGRAMS config/guest/initramfs-script RENAME vtpm-front
    DESTINATION ${CMAKE_INSTALL_DATADIR}/initramfs-tools/scripts/init-premount)
set(dracut_module ${CMAKE_INSTALL_PREFIX}/lib/dracut/modules.d/91vtpm-front)
install(PROGRAMS config/guest/dracut-module-setup.sh RENAME module-setup.sh DESTINATION ${dracut_module})
install(FILES config/guest/70-xen-vtpm-guest-initrd.rules DESTINATION ${dracut_module})

install(FILES config/vtpmmgrd.toml DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/xen-vtpm)
install(FILES config/needrestart.conf RENAME xen-vtpm.conf
    DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/needrestart/conf.d)
install(PROGRAMS config/vtpm DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/xen/scripts)

install(FILES
    packaging/man/vtpmctl.8
    packaging/man/vtpmmgrd.8
    packaging/man/vtpmd.8
    packaging/man/vtpm-engine.8
    packaging/man/vtpm-front.8
    packaging/man/vtpm-swtpm.8
    packaging/man/vtpm-swtpm-setup.8
    packaging/man/vtpm-swtpm-engine.8
    DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
